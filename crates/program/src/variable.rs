//! The settings of a program, each declared once: the reading with its errors, `--help` and the table of the documents
//! come from the declaration.

/// One environment variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The value if it is not set.
    pub default: &'static str,
    /// The valid values; it follows "expected: ".
    pub expected: &'static str,
    /// Its effect, in whole sentences.
    pub text: &'static str,
    /// A valid value.
    pub example: &'static str,
}

/// Declares the settings of a program: a constant for each, and `SETTINGS`, all of them in the order in which they are
/// shown. The last ones are those of the log, which every program has.
#[macro_export]
macro_rules! settings {
    ($($name:ident { default: $default:expr, expected: $expected:literal, text: $text:literal, example: $example:literal, })+) => {
        $(
            pub(crate) const $name: $crate::Variable = $crate::Variable {
                name: stringify!($name),
                default: $default,
                expected: $expected,
                text: $text,
                example: $example,
            };
        )+

        /// Every setting, in the order in which they are shown.
        pub const SETTINGS: [&$crate::Variable; [$(stringify!($name)),+].len() + 2] =
            [$(&$name,)+ &$crate::LOG, &$crate::LOG_FORMAT];
    };
}

/// Which events are logged.
pub const LOG: Variable = Variable {
    name: "LOG",
    default: "info",
    expected: "error, warn, info, debug or trace",
    text: "Which events are logged.",
    example: "debug",
};

/// The form of the log.
pub const LOG_FORMAT: Variable = Variable {
    name: "LOG_FORMAT",
    default: "text",
    expected: "text or json",
    text: "The form of the log lines.",
    example: "json",
};

/// A program, and its settings.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// What it does, as the rest of a line after its name.
    pub purpose: &'static str,
    /// Its settings.
    pub settings: &'static [&'static Variable],
}

impl Program {
    /// The table of the documents.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut table = "| setting | default | values | what it does |\n|-|-|-|-|\n".to_owned();
        for setting in self.settings {
            let Variable {
                name,
                default,
                expected,
                text,
                ..
            } = setting;
            let default = if default.is_empty() {
                "none".to_owned()
            } else {
                format!("`{default}`")
            };
            table.extend([
                "| `", name, "` | ", &default, " | ", expected, " | ", text, " |\n",
            ]);
        }
        table
    }

    /// The text of `--help`.
    #[must_use]
    pub fn help(&self) -> String {
        let Self { name, purpose, .. } = self;
        let mut help = format!(
            "{name}: {purpose}\n\
             \n\
             usage: {name} [--help | --version]\n\
             \n\
             Settings are environment variables. Exit codes: 0 ended by a signal; 64 wrong settings, all are listed;\n\
             71 a system call failed.\n"
        );
        for setting in self.settings {
            let Variable {
                name,
                default,
                expected,
                text,
                example,
            } = setting;
            let default = if default.is_empty() { "none" } else { default };
            help.extend([
                "\n",
                name,
                "\n    ",
                text,
                "\n    expected: ",
                expected,
                "\n    default: ",
                default,
                "\n    example: ",
                name,
                "=",
                &format!("{example:?}"),
                "\n",
            ]);
        }
        help
    }

    /// The output of `--version`.
    #[must_use]
    pub fn version(&self) -> String {
        format!("{} {}\n", self.name, env!("CARGO_PKG_VERSION"))
    }
}
