// Builds the runtime that the private Docker daemon calls in place of runc.
module podspan.dev/testbed/kubernetes/bounded-runc

go 1.26.0
