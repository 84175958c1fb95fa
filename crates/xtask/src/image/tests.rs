//! Layers, documents and archives, judged by GNU tar, and by reading them back.

use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use serde_json::Value;

use super::contents::{Architecture, Contents, IMAGES, PODSPAN_IMAGE};
use super::layer::{self, Executable};
use super::oci::{ForOne, Image};
use super::read::Found;

fn executable<'a>(path: &'a str, bytes: &'a [u8], capability: Option<u8>) -> Executable<'a> {
    Executable {
        path,
        bytes,
        capability,
    }
}

/// What GNU tar says, which must find nothing to complain about.
fn tar(arguments: &[&str], archive: &Path) -> String {
    let output = Command::new("tar")
        .args(arguments)
        .arg("--file")
        .arg(archive)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn unpacked(archive: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("archive");
    fs::write(&file, archive).unwrap();
    tar(
        &["--extract", "--directory", folder.path().to_str().unwrap()],
        &file,
    );
    fs::remove_file(file).unwrap();
    folder
}

/// The least that counts as a static program for `architecture`.
fn program(architecture: Architecture) -> Vec<u8> {
    let mut elf = vec![0; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18..20].copy_from_slice(&architecture.machine().to_le_bytes());
    elf[32] = 64;
    elf[54] = 56;
    elf
}

fn image(contents: &Contents, architectures: &[Architecture]) -> Image {
    let images = architectures.iter().map(|&architecture| {
        let bytes = program(architecture);
        let programs = contents.programs.iter();
        let files: Vec<_> = programs
            .map(|program| executable(program.path, &bytes, program.capability))
            .collect();
        super::pack(contents, architecture, &files).unwrap()
    });
    Image::new(images.collect()).unwrap()
}

#[test]
fn a_file_capability_is_a_record_that_gnu_tar_reads() {
    let layer = layer::tar(&[
        executable("/podspan", b"agent", Some(13)),
        executable("/sensor", b"sensor", None),
    ])
    .unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &layer).unwrap();
    let listed = tar(
        &["--xattrs", "--xattrs-include=*", "--numeric-owner", "-tvv"],
        file.path(),
    );
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(lines.len(), 3, "{listed}");
    assert!(
        lines[0].starts_with("-rwxr-xr-x")
            && lines[0].contains(" 0/0 ")
            && lines[0].ends_with(" podspan"),
        "{listed}"
    );
    assert_eq!(lines[1].trim(), "x: 20 security.capability");
    assert!(lines[2].ends_with(" sensor"), "{listed}");
    // What `setcap cap_net_raw+p` writes, as getfattr shows it.
    assert_eq!(
        layer::permitted(13),
        [0, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    // CAP_BPF is among the high ones.
    assert_eq!(layer::permitted(39)[12], 128);
}

#[test]
fn folders_come_before_what_is_in_them() {
    let layer = layer::tar(&[
        executable("/usr/bin/a", b"a", None),
        executable("/usr/sbin/b", b"b", None),
    ])
    .unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &layer).unwrap();
    assert_eq!(
        tar(&["-t"], file.path()),
        "usr/\nusr/bin/\nusr/bin/a\nusr/sbin/\nusr/sbin/b\n"
    );
}

#[test]
fn both_architectures_are_in_one_index_and_each_is_complete() {
    for contents in IMAGES {
        both_architectures_are_complete(contents);
    }
}

fn both_architectures_are_complete(contents: &Contents) {
    let image = image(contents, &Architecture::ALL);
    let index: Value = serde_json::from_slice(&image.index.bytes).unwrap();
    let platforms: Vec<_> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|manifest| manifest["platform"]["architecture"].as_str().unwrap())
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);

    let folder = unpacked(&image.archive("registry.example:5000/podspan:1").unwrap());
    let path = folder.path().join("index.json");
    let outer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let annotations = &outer["manifests"][0]["annotations"];
    assert_eq!(
        annotations["io.containerd.image.name"],
        "registry.example:5000/podspan:1"
    );
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "1");
    for (number, architecture) in Architecture::ALL.into_iter().enumerate() {
        // As a copy of one architecture would have it.
        let one = serde_json::json!({"manifests": [index["manifests"][number]]});
        fs::write(&path, one.to_string()).unwrap();
        Found::read(folder.path())
            .and_then(|found| found.check(contents, architecture))
            .unwrap();
    }
}

/// Skopeo 1.9 makes a missing folder as root, and fails where it is not root.
#[test]
fn every_folder_of_the_archive_is_an_entry_of_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let archive = image(&PODSPAN_IMAGE, &Architecture::ALL)
        .archive("a:b")
        .unwrap();
    fs::write(file.path(), archive).unwrap();
    let listed = tar(&["-t"], file.path());
    let mut seen = std::collections::BTreeSet::from([""]);
    for path in listed.lines() {
        let end = path.trim_end_matches('/').rfind('/').map_or(0, |at| at + 1);
        assert!(seen.contains(&path[..end]), "{listed}");
        seen.insert(path);
    }
    assert!(seen.contains("blobs/sha256/"), "{listed}");
}

#[test]
fn the_order_of_the_architectures_does_not_matter() {
    let [one, other] = [
        [Architecture::Amd64, Architecture::Arm64],
        [Architecture::Arm64, Architecture::Amd64],
    ]
    .map(|architectures| {
        image(&PODSPAN_IMAGE, &architectures)
            .archive("a/b:c")
            .unwrap()
    });
    assert!(one == other);
}

#[test]
fn a_wrong_image_is_found() {
    let bytes = program(Architecture::Amd64);
    let checked = |files: &[Executable<'_>]| {
        let sensor = executable("/podspan-sensor", &bytes, Some(13));
        let receive = executable("/podspan-receive", &bytes, None);
        let files = [&[sensor, receive], files].concat();
        let one = ForOne::new(
            Architecture::Amd64,
            &layer::tar(&files).unwrap(),
            &PODSPAN_IMAGE.runtime(),
        );
        let image = Image::new(vec![one.unwrap()]).unwrap();
        let folder = unpacked(&image.archive("a:b").unwrap());
        fs::write(folder.path().join("index.json"), &image.index.bytes).unwrap();
        let result =
            Found::read(folder.path()).and_then(|it| it.check(&PODSPAN_IMAGE, Architecture::Amd64));
        result.map_err(|error| error.to_string())
    };
    assert_eq!(checked(&[executable("/podspan", &bytes, Some(13))]), Ok(()));
    for (files, says) in [
        (vec![executable("/podspan", &bytes, None)], "capability"),
        (vec![executable("/podspan", &bytes, Some(12))], "capability"),
        (vec![executable("/podspan", b"#!", Some(13))], "static"),
        (
            vec![executable(
                "/podspan",
                &program(Architecture::Arm64),
                Some(13),
            )],
            "another machine",
        ),
        (
            vec![
                executable("/podspan", &bytes, Some(13)),
                executable("/more", &bytes, None),
            ],
            "/more",
        ),
    ] {
        let error = checked(&files).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn an_image_that_is_too_large_is_refused() {
    // What cannot be compressed.
    let mut state = 1_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_le_bytes()[7]
    };
    let bytes: Vec<u8> = (0..super::IMAGE_MAX).map(|_| random()).collect();
    let error = super::pack(
        &PODSPAN_IMAGE,
        Architecture::Arm64,
        &[executable("/podspan", &bytes, None)],
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("arm64"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// GNU tar gets every file back out of the compressed layer.
    #[test]
    fn gnu_tar_unpacks_what_was_packed(
        files in proptest::collection::btree_map(
            "(/[a-c]{1,3}){0,2}/[d-z]{1,120}",
            (proptest::collection::vec(any::<u8>(), 0..2000), proptest::option::of(0_u8..41)),
            0..5,
        ),
    ) {
        let mut executables: Vec<_> = files
            .iter()
            .map(|(path, (bytes, capability))| executable(path, bytes, *capability))
            .collect();
        let archive = layer::gzip(&layer::tar(&executables).unwrap()).unwrap();
        executables.reverse();
        let again = layer::gzip(&layer::tar(&executables).unwrap()).unwrap();
        prop_assert!(archive == again);
        let folder = unpacked(&archive);
        for (path, (bytes, _)) in &files {
            let found = fs::read(folder.path().join(path.trim_start_matches('/'))).unwrap();
            prop_assert_eq!(&found, bytes);
        }
    }
}
