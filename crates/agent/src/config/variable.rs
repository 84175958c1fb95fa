//! What a setting is, and the macro that makes everything from its one declaration.
//!
//! In: the declarations in `settings.rs`, each with name, type, fallback, text and example. Out: a
//! constant [`Variable`] for each, the [`TABLE`](super::TABLE) of them, the fields of
//! [`Config`](super::Config), and how they are taken out of the environment by serde and envy. From
//! the table follow the texts of errors, `--help`, `--check-config` and `docs/configuration.md`.

/// One environment variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name, in capitals.
    pub name: &'static str,
    /// What is expected, as the end of the sentence "expected is ...".
    pub expected: &'static str,
    /// What holds when it is not set.
    pub fallback: Fallback,
    /// What it does: whole sentences for the operator.
    pub text: &'static str,
    /// A value that is valid.
    pub example: &'static str,
}

/// What holds when a variable is not set, or set to nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum Fallback {
    /// It must be set.
    Required,
    /// This value, parsed as if it had been set.
    Value(&'static str),
    /// No value; the words say what then happens.
    Unset(&'static str),
}

/// Declares all settings: the name of each, its field, which is the name in small letters, its type,
/// and `required`, `default: "a value"` or `unset: "what then happens"`, which makes the field an
/// `Option`.
macro_rules! settings {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident $field:ident: $type:ty {
            $kind:ident $(: $fallback:literal)?,
            expected: $expected:literal,
            text: $text:literal,
            example: $example:literal,
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
            };
        )+

        /// Every variable, in the order in which they are shown.
        pub const TABLE: [&Variable; [$(stringify!($name)),+].len()] = [$(&$name),+];

        /// The settings, valid each for itself and together.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Config {
            $(
                $(#[doc = $doc])+
                pub $field: settings!(@type $kind $type),
            )+
            /// Each with its origin, as it is shown.
            pub(super) effective: Vec<Setting>,
        }

        /// What serde reads: the variables by their names in small letters, as envy has them.
        #[derive(Debug, Default, Deserialize)]
        #[serde(default)]
        pub(super) struct Environment {
            $($field: Field<$type>,)+
        }

        /// What was read: nothing where a variable is not set, or is wrong.
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

            /// All together; nothing where one is missing that has no fallback, or that is wrong.
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
