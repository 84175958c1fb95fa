//! The type of a setting, and the macro that generates everything from one declaration.
//!
//! In: the declarations in `table.rs`, each with name, type, fallback, text, example and pattern. Out: a
//! constant [`Variable`] for each, the [`TABLE`](super::TABLE) of all, the fields of
//! [`Config`](super::Config), and the struct that serde and envy fill from the environment. The texts of
//! errors, `--help`, `--check-config` and `docs/configuration.md` come from the table.

/// One environment variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name, in capitals.
    pub name: &'static str,
    /// The valid values, in the form "a ..."; it follows "expected: ".
    pub expected: &'static str,
    /// The value if it is not set.
    pub fallback: Fallback,
    /// Its effect, in whole sentences for the operator.
    pub text: &'static str,
    /// A valid value.
    pub example: &'static str,
    /// Whether nothing may show its value.
    pub secret: bool,
}

/// The value of a variable that is not set, or empty.
#[derive(Debug, PartialEq, Eq)]
pub enum Fallback {
    /// It must be set.
    Required,
    /// This value, parsed as if it had been set.
    Value(&'static str),
    /// No value; the text says what happens then.
    Unset(&'static str),
}

/// Declares all settings: the name of each, its field, which is the name in lower case, its type, and
/// `required`, `default: "a value"` or `unset: "what happens then"`, which makes the field an `Option`.
macro_rules! settings {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident $field:ident: $type:ty {
            $kind:ident $(: $fallback:literal)?,
            expected: $expected:literal,
            text: $text:literal,
            example: $example:literal,
            pattern: $pattern:expr,
        }
    )+) => {
        $(
            $(#[doc = $doc])+
            pub(super) const $name: Variable = Variable {
                name: stringify!($name),
                expected: $expected,
                fallback: settings!(@fallback $kind $($fallback)?),
                text: $text,
                example: $example,
                secret: <$type as Value>::SECRET,
            };
        )+

        /// Every variable, in the order in which they are shown.
        pub const TABLE: [&Variable; [$(stringify!($name)),+].len()] = [$(&$name),+];

        /// The same for the injection, which checks annotations.
        #[cfg(feature = "inject")]
        pub const SETTINGS: [inject::Setting; TABLE.len()] = [
            $(inject::Setting {
                variable: $name.name,
                check: crate::annotation::check::<$type>,
                example: $name.example,
                expected: $name.expected,
                pattern: $pattern,
            }),+
        ];

        /// The settings, each valid, and valid together.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Config {
            $(
                $(#[doc = $doc])+
                pub $field: settings!(@type $kind $type),
            )+
            /// Each setting with its origin, for `--check-config`.
            pub(super) effective: Vec<Setting>,
        }

        /// What serde reads: the variables by their names in lower case, as envy returns them.
        #[derive(Debug, Default, Deserialize)]
        #[serde(default)]
        pub(super) struct Environment {
            $($field: Field<$type>,)+
        }

        /// The parsed values; `None` for a variable that is not set or wrong.
        pub(super) struct Values {
            $(pub(super) $field: Option<$type>,)+
        }

        impl Values {
            /// Reads every variable, so that every error is found.
            pub(super) fn read(environment: &Environment, reading: &mut Reading) -> Self {
                Self {
                    $($field: reading.value(&$name, &environment.$field),)+
                }
            }

            /// The complete configuration; `None` if a required value is missing or wrong.
            pub(super) fn complete(self, effective: Vec<Setting>) -> Option<Config> {
                Some(Config {
                    $($field: settings!(@complete $kind self.$field),)+
                    effective,
                })
            }
        }
    };

    (@fallback required) => { Fallback::Required };
    (@fallback default $value:literal) => { Fallback::Value($value) };
    (@fallback unset $meaning:literal) => { Fallback::Unset($meaning) };
    (@type unset $type:ty) => { Option<$type> };
    (@type $kind:ident $type:ty) => { $type };
    (@complete unset $value:expr) => { $value };
    (@complete $kind:ident $value:expr) => { $value? };
}
pub(super) use settings;
