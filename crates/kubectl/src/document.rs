//! `docs/kubectl.md`: the texts of `--help`, so they always match the program. A test compares the file.

use clap::CommandFactory as _;

use settings::SETTINGS;

use crate::Arguments;

const INTRODUCTION: &str = "\
# kubectl podspan

A plugin of kubectl for people and pipelines. Put the program `kubectl-podspan` into a folder of `PATH`; kubectl
finds it there. `kubectl-podspan markdown` prints this page; do not edit it.

## Files

```
kubectl podspan inject -f shop.yaml | kubectl apply -f -
helm template shop ./chart | kubectl podspan inject -f - | kubectl apply -f -
kubectl podspan uninject -f - < injected.yaml
```

The changed stream goes to the standard output, and one line for each object to the standard error. Exit code 0:
everything is changed. 1: nothing is changed, and the standard error has every reason, each with document, object
and line. 2: the arguments are wrong.

## Objects of a cluster

```
kubectl podspan inject deploy/web sts/db --dry-run=server   # only shows the changes
kubectl podspan inject deploy -l app=web -n shop            # shows them and asks
kubectl podspan uninject deploy -A --yes --output=json
```

The plugin runs the first `kubectl` of `PATH` for everything in the cluster, so contexts and authentication work as
in kubectl. It shows a diff of each object, as the API server would store it, and what happens to the pods: a changed
Deployment, for example, starts a rollout. Then it asks; `--yes` answers, and without a terminal it must be given.

- If one object is refused, or the API server refuses one of the changes, nothing is changed. The standard error has
  the reasons of all objects.
- The containers of a pod, and the templates of Jobs and of what a controller has made, cannot be changed. The reason
  names what to change in their place.
- If a template changes between the diff and the change, its object is read again and the change is shown again,
  once. Other changes of the object, as those of its status, do not matter.
- Nothing is injected in `kube-system`, `kube-public`, `kube-node-lease` and `podspan-system`. With `-A` their objects
  are left out.
- A later `kubectl apply` of the file without podspan keeps podspan's container, because it is not in the file that was
  applied before (`a_later_apply_of_the_file_keeps_podspan`). A tool that compares the cluster with a repository sees a difference: inject the files there.

Exit code 0: everything is changed, or needs no change. 1: nothing is changed, or the standard error begins with
\"not all of it is changed\" and names the objects that are not. 2: the arguments are wrong.

## What the cluster needs

```
kubectl podspan manifests rbac -n shop | kubectl apply -f -
kubectl podspan manifests policy --image registry.example/podspan:0.1.0 --set sensor=zeek | kubectl apply -f -
kubectl podspan manifests policy --kubernetes-version 1.35
```

## Keys of encrypted copies

[encryption.md](encryption.md#keys) says what each key does. New keys, for a sensor and for podspans in two namespaces:

```
kubectl podspan keys --sensor-namespace sensors -n shop -n web | kubectl create -f -
```

`kubectl create` refuses to replace keys that are there; `kubectl apply` would. Another namespace gets the same keys:

```
kubectl get secret podspan-receive -n sensors -o yaml | kubectl podspan keys -f - -n bank | kubectl create -f -
```

The pre-shared key is changed in three steps. No copy is lost, and a step that is repeated changes nothing.

```
# 1. The sensor gets a second key. Wait until each podspan-receive has logged keys=2.
kubectl get secret podspan-receive -n sensors -o yaml | kubectl podspan keys --rotate -f - | kubectl replace -f -
# 2. podspans get this key. Wait until all of them use it: podspan_receive_sessions_confirmed_with_older_key_total of
#    each podspan-receive does not grow for five minutes.
kubectl get secret podspan-receive -n sensors -o yaml | kubectl podspan keys -f - -n shop -n web | kubectl replace -f -
# 3. The older key is removed.
kubectl get secret podspan-receive -n sensors -o yaml | kubectl podspan keys --finish -f - | kubectl replace -f -
```

- `--rotate` is refused if there are two keys already, and `--finish` if there is one.
- Step 1 makes a key and gives it to the sensor alone, so no podspan has it first. Step 2 makes none: it takes the newer one.
- Steps 1 and 3 keep the `resourceVersion` that was read. If somebody else has changed the Secret meanwhile, the API server
  refuses the step, and nothing is changed (`a_step_from_a_secret_that_has_changed_meanwhile_is_refused`).
- A new private key of the sensor has no such way: podspans know one public key at a time. Make both Secrets anew.
";

const ANNOTATIONS: &str = "
## Annotations

They are on the pod: in `spec.template.metadata.annotations` of a Deployment. All values are texts. Each is checked
as podspan checks it when it starts. An unknown annotation `podspan.dev/*` is refused, with the nearest known name,
and so is one that is not on the pod, where it would have no effect.

`--set NAME=VALUE` gives a value to all pods that have no annotation of this name: the settings below, `cpu`,
`memory`, `filter` and `tunnel-secret`. It writes no annotation. `--tunnel-secret NAME` is `--set tunnel-secret=NAME`.

An injection of an injected stream updates podspan's container. It is refused if somebody else has changed the
container, for example a patch on `SENSOR`, because the change would be lost. The reason names the change, and the
annotation that makes it permanent.

A pod with the label `run: NAME`, where NAME is the value of `SENSOR`, is refused: it is a sensor itself, and each
copy would be mirrored again.

| annotation | value |
|-|-|
| `podspan.dev/cpu`, `podspan.dev/memory` | a quantity, which is request and limit, or both with a slash between them: `50m/250m` |
| `podspan.dev/containers` | names of containers: only the traffic of the ports that they declare is mirrored. All containers of a pod share one network namespace, so their ports tell their traffic apart. They become the variable `FILTER`, joined with the filter of `--set`. Together with `podspan.dev/filter` only with `podspan.dev/annotations: \"off\"`: otherwise podspan would use the filter in its place. |
| `podspan.dev/tunnel-secret` | the name of the Secret in the pod's namespace that has the [keys of encrypted tunnels](encryption.md#keys), such as `podspan-tunnel`. The pod gets the volume `podspan-tunnel` with it, and podspan's container mounts it. The pod starts without the Secret too. |
| `podspan.dev/host-network` | `allow`: podspan may be in a pod with `hostNetwork: true`, where it mirrors the traffic of the node |
| `podspan.dev/filter` | read by podspan [while it runs](filter.md). It becomes the variable `FILTER` too, which applies until podspan has read the annotation, and always if it may not read its own pod |
| `podspan.dev/mirror` | read by podspan [while it runs](filter.md); here it is only checked |
| `podspan.dev/port`, `podspan.dev/receiver` | of [sensors](discovery.md); they change nothing here |
| `podspan.dev/tunnel`, `podspan.dev/tunnel-port` | settings of the pod's podspan, as below. On the pod of a [sensor](discovery.md#annotations-of-a-sensor) other podspans read them too: there the tunnel is `wireguard` or `off`. Keys are in no annotation, only the name of their Secret. |
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
