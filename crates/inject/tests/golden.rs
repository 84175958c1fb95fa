//! Streams and what injection makes of them, as files next to this one; and what is refused, with its text.
//! `GOLDEN=write` writes the files again.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use inject::yaml::{self, Change};

use common::options;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

fn inputs() -> Vec<PathBuf> {
    let files = fs::read_dir(GOLDEN)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_input = |path: &PathBuf| !path.to_string_lossy().ends_with(".injected.yaml");
    let mut files: Vec<_> = files.filter(is_input).collect();
    files.sort();
    files
}

fn compare(path: &Path, text: &str) {
    if std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
        fs::write(path, text).unwrap();
    }
    assert_eq!(
        fs::read_to_string(path).unwrap(),
        text,
        "{}",
        path.display()
    );
}

#[test]
fn each_stream_gives_the_text_next_to_it() {
    let inputs = inputs();
    assert_eq!(inputs.len(), 9);
    for input in inputs {
        let bytes = fs::read(&input).unwrap();
        let output = yaml::inject(&bytes, &options()).unwrap();
        compare(&input.with_extension("injected.yaml"), &output.text);
        let removed = yaml::remove(output.text.as_bytes()).unwrap();
        assert_eq!(removed.text.as_bytes(), bytes, "{}", input.display());
        let again = yaml::inject(output.text.as_bytes(), &options()).unwrap();
        assert_eq!(again.text, output.text, "{}", input.display());
    }
}

#[test]
fn each_object_of_a_stream_is_reported() {
    let bytes = fs::read(Path::new(GOLDEN).join("stream.yaml")).unwrap();
    let output = yaml::inject(&bytes, &options()).unwrap();
    let objects: Vec<_> = output
        .objects
        .iter()
        .map(|object| {
            (
                object.document,
                object.kind.as_str(),
                object.name.as_str(),
                object.line,
                object.change,
            )
        })
        .collect();
    let expected = [
        (1, "", "", 2, Change::NotAWorkload),
        (2, "ConfigMap", "scripts", 5, Change::NotAWorkload),
        (3, "CronJob", "report", 19, Change::Injected),
        (4, "Rollout", "canary", 33, Change::NotAWorkload),
        (
            5,
            "Deployment",
            "of-another-group",
            39,
            Change::NotAWorkload,
        ),
        (6, "DaemonSet", "agent", 50, Change::Injected),
        (7, "", "", 59, Change::NotAWorkload),
    ];
    assert_eq!(objects, expected);
}

/// Deployments named `a` with this text as their pod's spec, and what is refused.
#[test]
fn what_cannot_be_changed_alone_is_refused() {
    let shared = |line| {
        format!(
            "document 1, Deployment a, line 1: the place to change is shared by an anchor, an alias or a merge key \
             (line {line}), so the change would have an effect elsewhere too. Write it out there"
        )
    };
    let layout = "document 1, Deployment a, line 1: podspan cannot change this text without changing something \
                  else. Write the pod's containers in the usual form, one key and one entry a line, and end the \
                  file with a line break";
    let cases = [
        ("spec: &s {containers: [{name: a}]}\n  other: *s\n", shared(6)),
        ("spec:\n      <<: *base\n      volumes: []\n", shared(8)),
        ("spec: *base\n", shared(7)),
        ("spec:\n      <<: *base\n      containers: [{name: a}]\n", shared(8)),
        ("spec:\n      initContainers: &i\n      - name: b\n      containers:\n      - name: a\n  other: *i\n", shared(8)),
        ("spec: {initContainers: , containers: [{name: a}]}\n", layout.to_owned()),
        (
            "spec: {containers: [{name: a}], containers: [{name: b}]}\n",
            "document 1, Deployment a, line 1: the value at line 6 is not valid in Kubernetes: the key containers \
             is there twice".to_owned(),
        ),
        (
            "spec: {containers: [{name: !a b}]}\n",
            "document 1, Deployment a, line 1: the value at line 6 is not valid in Kubernetes: the tag !a is \
             unknown".to_owned(),
        ),
        (
            "spec: {containers: [{name: podspan}, {name: a}]}\n",
            "document 1, Deployment a, line 1: spec.containers has a container named podspan that podspan did not \
             add: its variable NODE_NAME is not the field spec.nodeName. Rename or remove it".to_owned(),
        ),
    ];
    for (spec, expected) in cases {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec:\n  template:\n    {spec}"
        );
        let text = if spec.contains("*base") {
            text.replace("metadata: {name: a}", "metadata: {name: a}\nbase: &base {containers: [{name: x}], initContainers: [{name: y}]}")
        } else {
            text
        };
        match yaml::inject(text.as_bytes(), &options()) {
            Ok(output) => panic!("{text}=>\n{}", output.text),
            Err(error) => assert_eq!(error.to_string(), expected, "{text}"),
        }
    }
}

#[test]
fn what_is_not_yaml_is_refused_with_its_line() {
    let helm = ". This seems to be a template of helm: inject what helm makes of it (helm template ... | kubectl podspan \
                inject -f -)";
    let cases = [
        (
            "a: 1\n---\nkind: {{ .Values.kind }}\n",
            format!(
                "document 2, line 3: not valid YAML at column 1: a mapping is the key of a mapping{helm}"
            ),
        ),
        (
            "kind: Pod\n{{- if .Values.pod }}\nspec: {}\n{{- end }}\n",
            format!(
                "document 1, line 2: not valid YAML at column 3: \"-\" is only valid inside a block{helm}"
            ),
        ),
        (
            "a:\n\tb: 1\n",
            "document 1, line 2: not valid YAML at column 2: tabs".to_owned(),
        ),
        (
            "a: 1\nb: [1\n",
            "document 1, line 2: not valid YAML at column 4: unclosed".to_owned(),
        ),
        (
            "a: *b\n",
            "document 1, line 1: not valid YAML at column 4: ".to_owned(),
        ),
    ];
    for (text, expected) in cases {
        let error = yaml::inject(text.as_bytes(), &options())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(&expected), "{text}=>\n{error}");
    }
    let error = yaml::inject(b"a: \xff\n", &options())
        .unwrap_err()
        .to_string();
    assert_eq!(error, "the input is not UTF-8 text: byte 3 is invalid");
}

#[test]
fn all_objects_that_are_refused_are_reported() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\napiVersion: v1\nkind: List\nitems:\n\
                - {apiVersion: apps/v1, kind: Deployment, metadata: {name: b, annotations: {podspan.dev/vni: '1'}},\n\
                   spec: {template: {spec: {containers: [{name: b}]}}}}\n\
                - {apiVersion: batch/v1, kind: Job, metadata: {generateName: c-}, spec: {}}\n\
                - {apiVersion: v1, kind: Pod, spec: {hostNetwork: yes, containers: [{name: d}]}}\n";
    let error = yaml::inject(text.as_bytes(), &options())
        .unwrap_err()
        .to_string();
    let expected = "document 1, Pod a, line 1: spec is not a mapping\n\
        document 2, Deployment b, line 8: podspan.dev/vni is in metadata.annotations, where podspan does not read \
        it. Move it to the pod: spec.template.metadata.annotations\n\
        document 2, Job c-, line 10: spec.template is not a mapping\n\
        document 2, Pod (without a name), line 11: the pod has hostNetwork: true, so podspan would mirror all \
        traffic of the node. If this is what you want, add the annotation podspan.dev/host-network: allow";
    assert_eq!(error, expected);
}

/// Aliases of aliases have more nodes than memory has bytes.
#[test]
fn aliases_that_grow_without_bounds_are_refused() {
    let mut text = "apiVersion: v1\nkind: Pod\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let inner = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(text, "a{level}: &a{level} [{inner}]").unwrap();
    }
    let error = yaml::inject(text.as_bytes(), &options())
        .unwrap_err()
        .to_string();
    assert!(error.contains("it has too many nodes"), "{error}");

    // Deeper than a stack.
    let open = "[".repeat(200);
    let close = "]".repeat(200);
    let mut text = format!("apiVersion: v1\nkind: Pod\na0: &a0 {open}{close}\n");
    for level in 1..200 {
        writeln!(text, "a{level}: &a{level} {open}*a{}{close}", level - 1).unwrap();
    }
    let error = yaml::inject(text.as_bytes(), &options())
        .unwrap_err()
        .to_string();
    assert!(error.contains("it has too many nodes"), "{error}");
    let error = yaml::inject(b"apiVersion: v1\nkind: Pod\na: &a [*a]\n", &options()).unwrap_err();
    assert!(error.to_string().contains("refers to itself"), "{error}");
}

/// Without a line break at its end, a block scalar changes if something follows it.
#[test]
fn a_block_scalar_at_the_end_is_not_changed() {
    let plain = inject::Options {
        placement: inject::Placement::Plain,
        ..options()
    };
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: a\n    image: |\n      b";
    let error = yaml::inject(text.as_bytes(), &plain)
        .unwrap_err()
        .to_string();
    assert!(error.contains("end the file with a line break"), "{error}");
    let output = yaml::inject(format!("{text}\n").as_bytes(), &plain).unwrap();
    assert_eq!(output.objects[0].change, Change::Injected);
}

/// An annotation that podspan does not read would have no effect, and nobody would see it.
#[test]
fn annotations_and_labels_of_podspan_are_only_on_the_pod() {
    let cron = |object: &str, job: &str, template: &str| {
        format!(
            "apiVersion: batch/v1\nkind: CronJob\n{object}\nspec:\n  jobTemplate:\n    {job}\n    spec:\n      \
             template:\n        {template}\n        spec: {{containers: [{{name: a}}]}}\n"
        )
    };
    let annotated = "metadata: {annotations: {podspan.dev/vni: '1'}}";
    let labelled = "metadata: {labels: {podspan.dev/vni: '1', podspan.dev/inject: 'true', podspan.dev/example: a}}";
    let list = |metadata: &str| {
        format!(
            "apiVersion: v1\nkind: List\n{metadata}\nitems:\n- apiVersion: v1\n  kind: Pod\n  spec: {{containers: \
             [{{name: a}}]}}\n"
        )
    };
    let beside = "apiVersion: v1\nkind: Pod\nannotations: {podspan.dev/vni: '1'}\nspec: {containers: [{name: a}]}\n";
    let rollout = format!(
        "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\n{annotated}\nspec: {{workloadRef: {{name: a}}}}\n"
    );
    let template = "spec.jobTemplate.spec.template.metadata.annotations";
    let cases = [
        (cron(annotated, "", ""), "metadata.annotations", template),
        (cron(labelled, "", ""), "metadata.labels", template),
        (
            cron("", annotated, ""),
            "spec.jobTemplate.metadata.annotations",
            template,
        ),
        (
            cron("", labelled, ""),
            "spec.jobTemplate.metadata.labels",
            template,
        ),
        (
            cron("", "", "annotations: {podspan.dev/vni: '1'}"),
            "spec.jobTemplate.spec.template.annotations",
            template,
        ),
        (
            list(annotated),
            "the List's metadata.annotations",
            "metadata.annotations",
        ),
        (beside.to_owned(), "annotations", "metadata.annotations"),
        (
            rollout,
            "metadata.annotations",
            "spec.template.metadata.annotations",
        ),
    ];
    for (text, found, place) in cases {
        let error = yaml::inject(text.as_bytes(), &options())
            .unwrap_err()
            .to_string();
        let expected = format!(
            ": podspan.dev/vni is in {found}, where podspan does not read it. Move it to the pod: {place}"
        );
        assert!(error.ends_with(&expected), "{text}=>\n{error}");
        // Removal is about containers only.
        assert_eq!(yaml::remove(text.as_bytes()).unwrap().text, text);
    }
    // As the common annotations of kustomize.
    let everywhere = cron(annotated, annotated, annotated);
    yaml::inject(everywhere.as_bytes(), &options()).unwrap();
    let other = everywhere.replacen("'1'", "'2'", 1);
    assert!(yaml::inject(other.as_bytes(), &options()).is_err());
}

/// Otherwise a pod would pass unchanged as an object of an unknown kind.
#[test]
fn the_kind_may_be_an_alias() {
    let kinds = [
        "x: [&k Pod, &v v1]\nkind: *k\napiVersion: *v\n",
        "x: &base {kind: Pod, apiVersion: v1}\n<<: *base\n",
        "x: &base {kind: Pod}\ny: &base2 {apiVersion: v1}\n<<: [*base, *base2]\n",
        "x: &inner {kind: Pod}\ny: &outer {<<: *inner, apiVersion: v1}\n<<: *outer\n",
    ];
    for kind in kinds {
        let text =
            format!("{kind}metadata: {{name: &n web}}\nspec: {{containers: [{{name: a}}]}}\n");
        let output = yaml::inject(text.as_bytes(), &options()).unwrap();
        let [object] = output.objects.as_slice() else {
            panic!("{text}");
        };
        assert_eq!(
            (object.name.as_str(), object.change),
            ("web", Change::Injected),
            "{text}"
        );
        assert_eq!(yaml::remove(output.text.as_bytes()).unwrap().text, text);
    }
    // A merge key that refers to itself has no end and no kind.
    let text = "x: &x {<<: *x}\n<<: *x\n";
    assert_eq!(
        yaml::inject(text.as_bytes(), &options()).unwrap().text,
        text
    );
}
