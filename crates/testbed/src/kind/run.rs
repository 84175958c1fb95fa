//! Running programs to their end, and writing files.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use super::error::{Error, Result};
use crate::process::fork;

/// How much of a failed program's output an error shows, in lines.
const TAIL: usize = 25;

/// Runs a command to its end and returns its standard output.
pub(super) fn run(what: &str, command: Command) -> Result<String> {
    run_with_input(what, command, "")
}

/// Runs a command with `input` as its standard input and returns its standard output as text.
pub(super) fn run_with_input(what: &str, command: Command, input: &str) -> Result<String> {
    let output = output_with_input(what, command, input)?;
    Ok(String::from_utf8_lossy(&output).into_owned())
}

/// As [`run_with_input`], with the bytes of the standard output.
pub(super) fn output_with_input(what: &str, mut command: Command, input: &str) -> Result<Vec<u8>> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = fork(command).map_err(Error::io(what))?;
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        // The program may answer before it has read everything, so writing is not waited for. If it does not
        // read to the end, its standard error has the reason.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    })
    .map_err(Error::io(what))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = [output.stdout, output.stderr].concat();
    Err(failed(what, output.status, &String::from_utf8_lossy(&text)))
}

/// Runs a command with all that it prints appended to `log`; the error shows the end of it.
pub(super) fn run_with_log(what: &str, mut command: Command, log: &Path) -> Result<()> {
    let describe = || format!("{what} with the log {}", log.display());
    let file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .map_err(Error::io(describe()))?;
    let errors = file.try_clone().map_err(Error::io(describe()))?;
    command.stdin(Stdio::null()).stdout(file).stderr(errors);
    let status = fork(command)
        .and_then(|mut child| child.wait())
        .map_err(Error::io(describe()))?;
    if status.success() {
        return Ok(());
    }
    Err(failed(what, status, &tail(log)))
}

fn failed(what: &str, status: ExitStatus, output: &str) -> Error {
    Error::Command {
        what: what.to_owned(),
        status,
        output: last_lines(output),
    }
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    match fs::read(log) {
        Ok(text) => last_lines(&String::from_utf8_lossy(&text)),
        Err(error) => format!("{}: {error}", log.display()),
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let first = lines.len().saturating_sub(TAIL);
    lines.get(first..).unwrap_or_default().join("\n")
}

/// Makes a folder and those above it.
pub(super) fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io(format!("making {}", path.display())))
}

/// Removes a folder with all that is in it, or a file; one that is not there is no error.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Writes a file with its folder.
pub(super) fn write(path: &Path, text: impl AsRef<[u8]>, mode: u32) -> Result<()> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(Error::io(format!("writing {}", path.display())))
}

/// Copies a file, with the folder that it comes to.
pub(super) fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(folder) = to.parent() {
        make_folder(folder)?;
    }
    fs::copy(from, to)
        .and_then(|_| fs::set_permissions(to, fs::Permissions::from_mode(mode)))
        .map_err(Error::io(format!(
            "copying {} to {}",
            from.display(),
            to.display()
        )))
}

/// Copies what is in a folder into another one; each file gets the mode that `mode` gives it.
pub(super) fn copy_tree(from: &Path, to: &Path, mode: &dyn Fn(&Path) -> u32) -> Result<()> {
    make_folder(to)?;
    for entry in entries(from)? {
        let target = to.join(entry.file_name().unwrap_or_default());
        if entry.is_dir() {
            copy_tree(&entry, &target, mode)?;
        } else {
            copy(&entry, &target, mode(&entry))?;
        }
    }
    Ok(())
}

/// What is in a folder, in the order of the names.
pub(super) fn entries(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let read = || -> io::Result<Vec<_>> {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    let mut entries = read().map_err(Error::io(format!("reading {}", folder.display())))?;
    entries.sort();
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_end_of_the_output() {
        let mut command = Command::new("sh");
        command.args(["-c", "seq 100; echo last >&2; exit 3"]);
        let error = run("counting", command).unwrap_err().to_string();
        assert!(error.starts_with("counting failed"), "{error}");
        assert!(error.ends_with("100\nlast"), "{error}");
        assert!(!error.contains("\n50\n"), "{error}");
    }

    #[test]
    fn input_reaches_the_program() {
        let text = run_with_input("copying", Command::new("cat"), "some text").unwrap();
        assert_eq!(text, "some text");
    }

    #[test]
    fn removing_what_is_not_there_is_no_error() {
        remove(Path::new("/no such folder/anywhere")).unwrap();
    }
}
