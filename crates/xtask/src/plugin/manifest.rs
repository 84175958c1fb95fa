//! The manifest of krew, from the template `.krew.yaml`.
//!
//! In: the template, as krew-release-bot reads it, the tag, and the address and digest of each archive. Out: the
//! manifest, without the platforms whose archive is not there. The template is text in the language of Go's
//! `text/template`, of which it uses two forms: `{{ .TagName }}`, and `{{addURIAndSha "ADDRESS" .TagName }}`,
//! which becomes the keys `uri` and `sha256`.

use crate::failure::{Failure, Result};

/// krew wants the plugin's name.
pub(crate) const FILE: &str = "podspan.yaml";

const TAG: &str = "{{ .TagName }}";
const ARCHIVE: &str = "{{addURIAndSha \"";
/// The first line of a platform, and of none of its keys.
const PLATFORM: &str = "  - ";
const PLATFORMS: &str = "  platforms:";

/// Fills in `template`. `archive` gets the file's name and the address of the release; it returns the address and
/// the SHA-256 to write, or nothing to leave the platform out.
pub(crate) fn fill(
    template: &str,
    tag: &str,
    mut archive: impl FnMut(&str, &str) -> Option<(String, String)>,
) -> Result<String> {
    let mut manifest = String::new();
    let mut platform = String::new();
    let mut is_there = true;
    let mut in_platforms = false;
    for line in template.lines() {
        if in_platforms && line.starts_with(PLATFORM) {
            if is_there {
                manifest.push_str(&platform);
            }
            platform.clear();
            is_there = true;
        }
        in_platforms |= line == PLATFORMS;
        let text = if in_platforms {
            &mut platform
        } else {
            &mut manifest
        };
        let line = line.replace(TAG, tag);
        if let Some((indent, rest)) = line.split_once(ARCHIVE) {
            let address = rest.split('"').next().unwrap_or_default();
            let file = address.rsplit('/').next().unwrap_or_default();
            match archive(file, address) {
                Some((uri, digest)) => {
                    let keys = [
                        indent, "uri: ", &uri, "\n", indent, "sha256: ", &digest, "\n",
                    ];
                    text.extend(keys);
                }
                None => is_there = false,
            }
        } else {
            *text += &line;
            text.push('\n');
        }
    }
    if is_there {
        manifest.push_str(&platform);
    }
    if let Some(unknown) = manifest.lines().find(|line| line.contains("{{")) {
        let message = format!(
            ".krew.yaml: {:?} is neither {TAG} nor {ARCHIVE}ADDRESS\" .TagName }}}}: use one of them",
            unknown.trim()
        );
        return Err(Failure::Wrong(message));
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "\
name: podspan
  version: {{ .TagName }}
  platforms:
  - os: a
    {{addURIAndSha \"https://b.example/{{ .TagName }}/a.tar.gz\" .TagName }}
    bin: p
  - os: b
    {{addURIAndSha \"https://b.example/{{ .TagName }}/b.tar.gz\" .TagName }}
    bin: p
";

    #[test]
    fn platforms_without_an_archive_are_left_out() {
        for (there, uri) in [
            ("a", "https://b.example/v1/a.tar.gz"),
            ("b", "https://b.example/v1/b.tar.gz"),
        ] {
            let manifest = fill(TEMPLATE, "v1", |file, address| {
                (file == format!("{there}.tar.gz")).then(|| (address.to_owned(), "12".to_owned()))
            });
            assert_eq!(
                manifest.unwrap(),
                format!(
                    "name: podspan\n  version: v1\n  platforms:\n  - os: {there}\n    \
                     uri: {uri}\n    sha256: 12\n    bin: p\n"
                )
            );
        }
    }

    #[test]
    fn an_unknown_form_is_named() {
        let error = fill("a: {{ .Tag }}\n", "v1", |_, _| None).unwrap_err();
        assert!(error.to_string().contains("{{ .Tag }}"), "{error}");
    }
}
