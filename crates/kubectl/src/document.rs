//! `docs/kubectl.md`: the texts of `--help`, so they always match the program. A test compares the file.

use clap::CommandFactory as _;

use settings::SETTINGS;

use crate::Arguments;

const INTRODUCTION: &str = "\
# kubectl podspan

A plugin of kubectl for people and pipelines. Put the program `kubectl-podspan` into a folder of `PATH`; kubectl
finds it there. `kubectl-podspan markdown` prints this page; do not edit it.

```
kubectl podspan inject -f shop.yaml | kubectl apply -f -
helm template shop ./chart | kubectl podspan inject -f - | kubectl apply -f -
kubectl podspan uninject -f - < injected.yaml
```

The changed stream goes to the standard output, and one line for each object to the standard error. Exit code 0:
everything is changed. 1: nothing is changed, and the standard error has every reason, each with document, object
and line. 2: the arguments are wrong.
";

const ANNOTATIONS: &str = "
## Annotations

They are on the pod: in `spec.template.metadata.annotations` of a Deployment. All values are texts. Each is checked
as podspan checks it when it starts. An unknown annotation `podspan.dev/*` is refused, with the nearest known name,
and so is one that is not on the pod, where it would have no effect.

`--set NAME=VALUE` gives a value to all pods that have no annotation of this name: the settings below, `cpu`,
`memory` and `filter`. It writes no annotation.

An injection of an injected stream updates podspan's container. It is refused if somebody else has changed the
container, for example a patch on `SENSOR`, because the change would be lost. The reason names the change, and the
annotation that makes it permanent.

A pod with the label `run: NAME`, where NAME is the value of `SENSOR`, is refused: it is a sensor itself, and each
copy would be mirrored again.

| annotation | value |
|-|-|
| `podspan.dev/cpu`, `podspan.dev/memory` | a quantity, which is request and limit, or both with a slash between them: `50m/250m` |
| `podspan.dev/containers` | names of containers: only the traffic of the ports that they declare is mirrored. All containers of a pod share one network namespace, so their ports tell their traffic apart. They become the variable `FILTER`, joined with the filter of `--set`. Together with `podspan.dev/filter` only with `podspan.dev/annotations: \"off\"`: otherwise podspan would use the filter in its place. |
| `podspan.dev/host-network` | `allow`: podspan may be in a pod with `hostNetwork: true`, where it mirrors the traffic of the node |
| `podspan.dev/filter` | read by podspan [while it runs](filter.md). It becomes the variable `FILTER` too, which applies until podspan has read the annotation, and always if it may not read its own pod |
| `podspan.dev/mirror` | read by podspan [while it runs](filter.md); here it is only checked |
| `podspan.dev/port`, `podspan.dev/receiver` | of [sensors](discovery.md); they change nothing here |
";

const SETTINGS_TABLE: &str = "
The others set podspan's [settings](configuration.md):

| annotation | setting |
|-|-|
";

/// The text of `docs/kubectl.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut command = Arguments::command();
    command.build();
    for command in command.get_subcommands_mut() {
        if command.is_hide_set() || command.get_name() == "help" {
            continue;
        }
        let name = command.get_name().to_owned();
        let help = command.render_long_help().to_string();
        let lines: Vec<_> = help.lines().map(str::trim_end).collect();
        text += &format_section(&name, &lines.join("\n"));
    }
    text.push_str(ANNOTATIONS);
    text.push_str(SETTINGS_TABLE);
    for setting in &SETTINGS {
        if let Some(annotation) = setting.annotation() {
            text += &["| `", &annotation, "` | `", setting.variable, "` |\n"].concat();
        }
    }
    text
}

fn format_section(name: &str, help: &str) -> String {
    format!("\n## {name}\n\n```\n{}\n```\n", help.trim_end())
}
