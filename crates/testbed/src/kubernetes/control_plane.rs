//! Starting, stopping, freezing and restarting the servers of one control plane.
//!
//! As long as the control plane exists, a socket of this process is bound to the API server's port and
//! never listens. The API server binds the same port too (`SO_REUSEPORT`, its
//! `--permit-port-sharing`). So no other test can bind the port between two starts, and while the
//! API server is down a client gets a reset, as from a machine that is up.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::binaries::Binaries;
use super::error::Error;
use super::etcd;
use super::pki::{Authority, Identity, TOKEN_ISSUER, TokenKey};
use super::server::{Server, command};
use crate::Namespace;
use crate::process::fork;
use crate::programs::Release;

/// How long a server may take to become ready; a busy machine needs a multiple of the usual 5 s.
const READY_TIMEOUT: Duration = Duration::from_secs(90);

/// How long a server may take to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a starting server is polled until it is ready.
const READY_POLL: Duration = Duration::from_millis(100);

/// What kube-controller-manager runs. Not among them are those that delete pods of nodes without a
/// kubelet (pod garbage collection, node lifecycle, taint eviction), as all nodes here are.
const CONTROLLERS: &str = "clusterrole-aggregation-controller,deployment-controller,\
     garbage-collector-controller,namespace-controller,replicaset-controller,\
     root-ca-certificate-publisher-controller,serviceaccount-controller";

/// What kind of control plane to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The network namespace of all servers and of kubectl; `None`: the caller's. A test's own client
    /// runs there too ([`Namespace::run`]), or where it can reach [`Self::address`].
    pub namespace: Option<Namespace>,
    /// Where the API server listens, and what its certificate is for: an address of the namespace.
    pub address: IpAddr,
    /// Whether kube-controller-manager runs: it fills the cluster role `view`, makes a service
    /// account in each new namespace, empties deleted namespaces, and makes pods of Deployments.
    pub controller_manager: bool,
    /// The release of the API server.
    pub release: Release,
    /// Further flags of kube-apiserver, such as `--max-requests-inflight=1`.
    pub apiserver_flags: Vec<String>,
}

impl Default for Options {
    /// etcd and kube-apiserver on 127.0.0.1 of the caller's network namespace.
    fn default() -> Self {
        Self {
            namespace: None,
            address: Ipv4Addr::LOCALHOST.into(),
            controller_manager: false,
            release: Release::default(),
            apiserver_flags: Vec::new(),
        }
    }
}

/// One of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
}

impl Component {
    /// Its binary's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        }
    }
}

/// A running control plane; it ends when this value is dropped.
pub struct ControlPlane {
    // Dropped in this order: the servers before their folder.
    servers: BTreeMap<Component, Server>,
    /// Keeps the API server's port reserved.
    _port: Socket,
    pub(super) token_key: TokenKey,
    address: SocketAddr,
    options: Options,
    pub(super) binaries: Binaries,
    folder: TempDir,
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ControlPlane")
            .field("address", &self.address)
            .field("folder", &self.folder.path())
            .finish_non_exhaustive()
    }
}

impl ControlPlane {
    /// Starts etcd, kube-apiserver and, if asked for, kube-controller-manager, and returns when the
    /// API server is ready: about 5 s when the binaries are built.
    ///
    /// # Errors
    /// When the binaries are not found or built (see [`Binaries::find`]), or a server does not come up; the
    /// text has the end of its log.
    pub fn start(options: Options) -> Result<Self, Error> {
        let binaries = Binaries::of(options.release)?;
        let folder = tempfile::Builder::new()
            .prefix("podspan-kubernetes-")
            .tempdir()
            .map_err(Error::io("making the control plane's folder"))?;
        let (port, address) = match &options.namespace {
            Some(namespace) => namespace.run(|| reserve_port(options.address)),
            None => reserve_port(options.address),
        }?;
        let mut control_plane = Self {
            servers: BTreeMap::new(),
            _port: port,
            token_key: TokenKey::new()?,
            address,
            options,
            binaries,
            folder,
        };
        control_plane.write_identities()?;
        // The API server waits for etcd by itself, so both start at once.
        control_plane.spawn(Component::Etcd)?;
        control_plane.launch(Component::ApiServer)?;
        control_plane.create_namespace("default")?;
        if control_plane.options.controller_manager {
            control_plane.launch(Component::ControllerManager)?;
        }
        Ok(control_plane)
    }

    /// Where the API server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The network namespace that it runs in, if the options have one.
    #[must_use]
    pub fn namespace(&self) -> Option<&Namespace> {
        self.options.namespace.as_ref()
    }

    /// The folder with the logs, certificates and kubeconfigs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a component that was stopped, on the address and with the data it had, and waits
    /// until it is ready.
    ///
    /// # Errors
    /// When it runs already, ends by itself, or is not ready in time.
    pub fn launch(&mut self, component: Component) -> Result<(), Error> {
        self.spawn(component)?;
        let ready = self.wait_until_ready(component);
        if ready.is_err() {
            self.servers.remove(&component);
        }
        ready
    }

    /// Stops a component with SIGTERM and waits for its end.
    ///
    /// # Errors
    /// When it does not run or does not end in time.
    pub fn terminate(&mut self, component: Component) -> Result<(), Error> {
        self.take(component)?.terminate(STOP_TIMEOUT)
    }

    /// Ends a component with SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, component: Component) -> Result<(), Error> {
        self.take(component).map(drop)
    }

    /// Freezes a component with SIGSTOP: connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self, component: Component) -> Result<(), Error> {
        self.server(component)?.signal(Signal::SIGSTOP)
    }

    /// Continues a frozen component.
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self, component: Component) -> Result<(), Error> {
        self.server(component)?.signal(Signal::SIGCONT)
    }

    /// Makes etcd delete every version but the newest of each object.
    ///
    /// A client that continues from an older resourceVersion gets 410 Gone, if the API server's watch
    /// cache does not have it: kill and launch the API server to empty the cache.
    ///
    /// # Errors
    /// When etcd does not answer or refuses, as it does when nothing changed since the last time.
    pub fn compact(&self) -> Result<(), Error> {
        let revision = etcd::revision(self.folder())?;
        etcd::compact(self.folder(), revision)
    }

    /// Runs kubectl as administrator and returns what it printed.
    ///
    /// # Errors
    /// [`Error::Kubectl`] with its standard error when it fails.
    pub fn kubectl<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String, Error> {
        self.kubectl_as(&self.admin_kubeconfig(), arguments, "")
    }

    /// Runs kubectl with another kubeconfig, and `input` as its standard input.
    ///
    /// # Errors
    /// [`Error::Kubectl`] with its standard error when it fails.
    pub fn kubectl_as<S: AsRef<OsStr>>(
        &self,
        kubeconfig: &Path,
        arguments: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Result<String, Error> {
        let mut command = self.command("kubectl");
        command
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .env("KUBECACHEDIR", self.folder().join("kubectl-cache"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let arguments = command
            .get_args()
            .map(|argument| argument.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ");
        let failed = || format!("running kubectl {arguments}");
        let mut child = fork(command).map_err(Error::io(failed()))?;
        let stdin = child.stdin.take();
        let output = thread::scope(|scope| {
            // kubectl may answer before it has read everything, so nothing waits for this thread. A
            // failed write is no error here: kubectl reports what is missing.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
            child.wait_with_output()
        })
        .map_err(Error::io(failed()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Error::Kubectl {
            arguments,
            status: output.status,
            stderr,
        })
    }

    fn wait_until_ready(&mut self, component: Component) -> Result<(), Error> {
        let started = Instant::now();
        loop {
            // If the API server does not start because etcd failed, etcd's log has the reason.
            for server in self.servers.values_mut() {
                server.check()?;
            }
            let Err(not_yet) = self.probe(component) else {
                return Ok(());
            };
            if started.elapsed() > READY_TIMEOUT {
                let server = self.server(component)?;
                return Err(server.late(READY_TIMEOUT, not_yet.to_string()));
            }
            thread::sleep(READY_POLL);
        }
    }

    /// Whether a component is ready.
    fn probe(&self, component: Component) -> Result<(), Error> {
        match component {
            Component::Etcd => etcd::revision(self.folder()).map(drop),
            Component::ApiServer => {
                let arguments = ["get", "--raw=/readyz", "--request-timeout=5s"];
                self.kubectl(arguments).map(drop)
            }
            Component::ControllerManager => {
                // The last thing it does at its start that a test can depend on.
                let rules = self.kubectl([
                    "get",
                    "clusterrole",
                    "view",
                    "-o=jsonpath={.rules[0].verbs}",
                ])?;
                if rules.is_empty() {
                    return Err(Error::WrongState {
                        component: component.name(),
                        state: "has not filled the ClusterRole view yet",
                    });
                }
                Ok(())
            }
        }
    }

    fn spawn(&mut self, component: Component) -> Result<(), Error> {
        let name = component.name();
        if self.servers.contains_key(&component) {
            return Err(Error::WrongState {
                component: name,
                state: "runs already",
            });
        }
        let mut command = self.command(name);
        match component {
            Component::Etcd => etcd::configure(&mut command, self.folder()),
            Component::ApiServer => self.configure_apiserver(&mut command),
            Component::ControllerManager => self.configure_controller_manager(&mut command),
        }
        let log = self.folder().join(format!("{name}.log"));
        let server = Server::start(name, command, log)?;
        self.servers.insert(component, server);
        Ok(())
    }

    fn command(&self, binary: &str) -> Command {
        command(self.options.namespace.as_ref(), self.binaries.path(binary))
    }

    fn server(&self, component: Component) -> Result<&Server, Error> {
        self.servers
            .get(&component)
            .ok_or_else(|| not_running(component))
    }

    fn take(&mut self, component: Component) -> Result<Server, Error> {
        self.servers
            .remove(&component)
            .ok_or_else(|| not_running(component))
    }

    fn configure_apiserver(&self, command: &mut Command) {
        let file = |name: &str| self.folder().join(name).display().to_string();
        // Of the same family as its own address.
        let services = if self.address.is_ipv4() {
            "10.0.0.0/24"
        } else {
            "fd00::/108"
        };
        command
            .arg(format!(
                "--etcd-servers=unix://{}",
                etcd::socket(self.folder()).display()
            ))
            // Only compact() compacts.
            .arg("--etcd-compaction-interval=0")
            .arg(format!("--bind-address={}", self.address.ip()))
            .arg(format!("--advertise-address={}", self.address.ip()))
            .arg(format!("--secure-port={}", self.address.port()))
            .arg("--permit-port-sharing")
            // It publishes its address as an endpoint by default; a loopback address is refused there.
            .arg("--endpoint-reconciler-type=none")
            .arg(format!("--service-cluster-ip-range={services}"))
            .arg("--authorization-mode=RBAC")
            .arg(format!("--client-ca-file={}", file("ca.crt")))
            .arg(format!("--tls-cert-file={}", file("apiserver.crt")))
            .arg(format!("--tls-private-key-file={}", file("apiserver.key")))
            .arg(format!("--service-account-issuer={TOKEN_ISSUER}"))
            .arg(format!(
                "--service-account-key-file={}",
                file("service-account.pub")
            ))
            .arg(format!(
                "--service-account-signing-key-file={}",
                file("service-account.key")
            ))
            .arg("--service-account-extend-token-expiration=false")
            .args(&self.options.apiserver_flags)
            .current_dir(self.folder());
    }

    fn configure_controller_manager(&self, command: &mut Command) {
        let file = |name: &str| self.folder().join(name).display().to_string();
        command
            .arg(format!(
                "--kubeconfig={}",
                file("controller-manager.kubeconfig")
            ))
            .arg(format!("--controllers={CONTROLLERS}"))
            // Its own name has few rights; it makes a service account for each controller.
            .arg("--use-service-account-credentials=true")
            .arg(format!("--root-ca-file={}", file("ca.crt")))
            // It serves nothing, and there is only one.
            .args(["--secure-port=0", "--leader-elect=false"])
            // At the default rate its own throttling delays its start by seconds.
            .args(["--kube-api-qps=300", "--kube-api-burst=600"])
            .current_dir(self.folder());
    }

    fn write_identities(&self) -> Result<(), Error> {
        let authority = Authority::new("podspan-testbed")?;
        self.write("ca.crt", &authority.certificate_pem())?;
        self.write_identity(
            "apiserver",
            &authority.server("kube-apiserver", self.address.ip())?,
        )?;
        self.write("service-account.key", &self.token_key.private_pem())?;
        self.write("service-account.pub", &self.token_key.public_pem())?;
        let admin = authority.client("admin", Some("system:masters"))?;
        self.write_identity("admin", &admin)?;
        self.write_certificate_kubeconfig("admin")?;
        let manager = authority.client("system:kube-controller-manager", None)?;
        self.write_identity("controller-manager", &manager)?;
        self.write_certificate_kubeconfig("controller-manager")
    }

    fn write_identity(&self, name: &str, identity: &Identity) -> Result<(), Error> {
        self.write(&format!("{name}.crt"), &identity.certificate)?;
        self.write(&format!("{name}.key"), &identity.key).map(drop)
    }

    /// Writes a file in the folder, which only its owner can enter.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.folder().join(name);
        fs::write(&path, text).map_err(Error::io(format!("writing {}", path.display())))?;
        Ok(path)
    }
}

fn not_running(component: Component) -> Error {
    Error::WrongState {
        component: component.name(),
        state: "does not run",
    }
}

/// A free port, and the socket that keeps it.
fn reserve_port(address: IpAddr) -> Result<(Socket, SocketAddr), Error> {
    let reserve = || {
        let wanted = SocketAddr::new(address, 0);
        let socket = Socket::new(Domain::for_address(wanted), Type::STREAM, None)?;
        socket.set_reuse_port(true)?;
        socket.bind(&wanted.into())?;
        let bound = socket.local_addr()?.as_socket();
        Ok((socket, bound.unwrap_or(wanted)))
    };
    reserve().map_err(Error::io(format!("reserving a port on {address}")))
}
