//! A private apt: Debian packages without root and without a change to the host.
//!
//! The host's `apt-get` runs with a configuration of ours: own lists, own cache, and a dpkg status
//! that says nothing is installed, so that it resolves whole dependency closures of a suite the
//! host does not run. It verifies the archive's signatures and each package's hash as always.
//! Taken over from the host: the archive's address, proxies, and `/etc/apt/auth.conf`.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::error::{Error, Result};
use super::progress::Progress;
use super::store::{Package, Store, create_dir, sha256_file};

/// Names the archive instead of the host's apt.
const MIRROR_VARIABLE: &str = "SDMORPH_MIRROR";
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];
const APT_REMEDY: &str = "on a host other than Debian, give QEMU=, BUSYBOX=, KERNEL= and MODULES= instead";

/// A Debian release that packages are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Suite {
    /// Debian 12.
    Bookworm,
    /// Debian 13, with its backports at a lower priority.
    Trixie,
}

impl Suite {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A package that apt would fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) version: String,
    size_bytes: u64,
}

impl Candidate {
    /// The version without its epoch: the dynamic loader splits `--library-path` at colons.
    pub(crate) fn directory_name(&self) -> String {
        self.version.split_once(':').map_or(self.version.as_str(), |(_, version)| version).to_owned()
    }

    #[cfg(test)]
    pub(crate) fn new(name: &str, version: &str, size_bytes: u64) -> Self {
        Self { name: name.into(), version: version.into(), size_bytes }
    }
}

/// A fetched package.
#[derive(Debug, Clone)]
pub(crate) struct Deb {
    pub(crate) package: Package,
    path: PathBuf,
}

/// The private apt of one suite, with current lists.
#[derive(Debug)]
pub(crate) struct Apt {
    config: PathBuf,
    progress: Progress,
}

impl Apt {
    /// Configures apt for a suite and brings its lists up to date.
    pub(crate) fn open(store: &Store, suite: Suite, progress: Progress) -> Result<Self> {
        let keyring =
            KEYRINGS.into_iter().find(|path| Path::new(path).exists()).ok_or_else(|| Error::NoArchive {
                why: "the host has no Debian archive keyring (package debian-archive-keyring)".into(),
            })?;
        let host = HostArchive::discover()?;
        let dir = store.root().join("apt").join(suite.name());
        for sub in ["empty", "state/lists/partial", "cache/archives/partial"] {
            create_dir(&dir.join(sub))?;
        }
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).map_err(Error::io("write", &path))
        };
        write("status", "")?;
        write("sources.list", &sources_list(suite, &host, keyring))?;
        write("apt.conf", &configuration(&dir, &host.settings)?)?;
        let apt = Self { config: dir.join("apt.conf"), progress };
        apt.update(suite)?;
        Ok(apt)
    }

    fn update(&self, suite: Suite) -> Result<()> {
        let step = self.progress.step(&format!("reading the package lists of {suite}"), None);
        let mut command = self.apt_get();
        command.args(["update", "-qq", "--error-on=any"]);
        run(&mut command)
            .map_err(|error| archive_error(&format!("cannot read the package lists of {suite}"), error))?;
        step.finish();
        Ok(())
    }

    /// What would have to be fetched to install `packages` (names, or `name/suite`) on an empty system.
    pub(crate) fn closure(&self, packages: &[&str]) -> Result<Vec<Candidate>> {
        let mut command = self.apt_get();
        command.args(["install", "-qq", "--yes", "--no-install-recommends", "--print-uris"]).args(packages);
        let output = run(&mut command)
            .map_err(|error| archive_error(&format!("cannot resolve {}", packages.join(" ")), error))?;
        Ok(parse_print_uris(&output))
    }

    /// Fetches packages into `dir`. apt checks their hashes against the signed lists.
    pub(crate) fn fetch(&self, what: &str, packages: &[Candidate], dir: &Path) -> Result<Vec<Deb>> {
        create_dir(dir)?;
        let total = packages.iter().map(|package| package.size_bytes).sum();
        let step = self.progress.step(&format!("fetching {what}"), Some(total));
        let mut stderr = tempfile::tempfile().map_err(Error::io("create", Path::new("a temporary file")))?;
        let mut command = self.apt_get();
        command
            .args(["download", "-q", "-o", "APT::Status-Fd=1"])
            .args(packages.iter().map(|package| format!("{}={}", package.name, package.version)))
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(clone(&stderr)?);
        let mut child = command.spawn().map_err(apt_spawn)?;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                if let Some(permille) = status_permille(&line) {
                    step.permille(permille);
                }
            }
        }
        let status = child.wait().map_err(Error::io("wait for", Path::new("apt-get")))?;
        if !status.success() {
            return Err(Error::Archive {
                what: format!("cannot fetch {what}"),
                stderr: read_back(&mut stderr),
            });
        }
        step.finish();
        packages.iter().map(|package| find_deb(dir, package)).collect()
    }

    /// Where its steps are shown.
    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }

    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", &self.config).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }
}

impl Deb {
    /// Unpacks into `root`, keeping its symlinks to directories, without documentation and translations.
    pub(crate) fn unpack(&self, root: &Path) -> Result<()> {
        let what = format!("unpacking {}", self.package.file);
        let mut errors = tempfile::tempfile().map_err(Error::io("create", Path::new("a temporary file")))?;
        let mut dpkg = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(&self.path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(clone(&errors)?)
            .spawn()
            .map_err(|error| Error::spawn("dpkg-deb", "unpack Debian packages", APT_REMEDY, error))?;
        let mut tar = Command::new("tar");
        // Owners do not matter, and only root could set them; set-id bits would outlive the package.
        tar.args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--no-same-permissions"])
            .args(["doc", "locale", "man"].map(|unread| format!("--exclude=./usr/share/{unread}")))
            .arg("--directory")
            .arg(root)
            .stdin(dpkg.stdout.take().map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::null())
            .stderr(clone(&errors)?);
        let unpacked = tar
            .status()
            .map_err(|error| Error::spawn("tar", "unpack Debian packages", "install the package tar", error));
        let read = dpkg.wait().map_err(Error::io("wait for", Path::new("dpkg-deb")))?;
        for status in [unpacked?, read] {
            if !status.success() {
                return Err(Error::Command {
                    what,
                    status: status.to_string(),
                    stderr: read_back(&mut errors),
                });
            }
        }
        Ok(())
    }
}

/// Creates the links that every Debian system since 12 has, so that old packages unpack into `usr`.
pub(crate) fn merge_usr(root: &Path) -> Result<()> {
    for dir in ["bin", "lib", "lib64", "sbin"] {
        let target = Path::new("usr").join(dir);
        create_dir(&root.join(&target))?;
        let link = root.join(dir);
        std::os::unix::fs::symlink(&target, &link).map_err(Error::io("create", &link))?;
    }
    Ok(())
}

/// What the host's apt knows: where the archive is and how to reach it.
#[derive(Debug, PartialEq, Eq)]
struct HostArchive {
    main: String,
    security: Option<String>,
    settings: Vec<String>,
}

impl HostArchive {
    fn discover() -> Result<Self> {
        let mut command = Command::new("apt-get");
        // Unlike `indextargets`, this needs no lists: a fresh container has none.
        command.args(["update", "--print-uris"]).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        let (mut main, security) = parse_archives(&run(&mut command)?);
        if let Some(mirror) = std::env::var_os(MIRROR_VARIABLE) {
            main = Some(mirror.to_string_lossy().into_owned());
        }
        let main = main.ok_or_else(|| Error::NoArchive {
            why: format!(
                "apt on this host is set up with no Debian archive, and {MIRROR_VARIABLE} is not set"
            ),
        })?;
        let mut command = Command::new("apt-config");
        command.args(["dump", "--format", "%F \"%v\";%n"]).stdin(Stdio::null());
        Ok(Self { main, security, settings: parse_network_settings(&run(&mut command)?) })
    }
}

/// The archive and the security archive, from the `'URI/dists/SUITE/InRelease' …` lines of apt.
fn parse_archives(uris: &str) -> (Option<String>, Option<String>) {
    let repositories: Vec<(&str, &str)> = uris
        .lines()
        .filter_map(|line| line.strip_prefix('\'')?.split('\'').next()?.strip_suffix("/InRelease"))
        .filter_map(|uri| uri.split_once("/dists/"))
        .collect();
    let is_debian = |suite: &str| {
        let release = suite.split('-').next().unwrap_or(suite);
        ["bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"]
            .contains(&release)
    };
    let main: Vec<&str> = repositories
        .iter()
        .filter(|(_, suite)| is_debian(suite) && !suite.contains("-security"))
        .map(|(uri, _)| *uri)
        .collect();
    // Other vendors name their suites after Debian's, too.
    let main = main.iter().find(|uri| uri.ends_with("/debian")).or_else(|| main.first());
    let security = repositories
        .iter()
        .find(|(uri, suite)| is_debian(suite) && suite.ends_with("-security") && uri.contains("security"));
    (main.map(|uri| (*uri).to_owned()), security.map(|(uri, _)| (*uri).to_owned()))
}

/// Proxies and other network settings, as lines for a configuration file.
fn parse_network_settings(dump: &str) -> Vec<String> {
    dump.lines()
        .filter(|line| {
            let name = line.split(' ').next().unwrap_or_default().to_ascii_lowercase();
            name.starts_with("acquire::http::") || name.starts_with("acquire::https::")
        })
        .map(str::to_owned)
        .collect()
}

fn sources_list(suite: Suite, host: &HostArchive, keyring: &str) -> String {
    let mut suites = vec![(host.main.as_str(), suite.name().to_owned())];
    if let Some(security) = &host.security {
        suites.push((security, format!("{suite}-security")));
    }
    if suite == Suite::Trixie {
        suites.push((host.main.as_str(), format!("{suite}-backports")));
    }
    suites.iter().map(|(uri, suite)| format!("deb [signed-by={keyring}] {uri} {suite} main\n")).collect()
}

fn configuration(dir: &Path, host_settings: &[String]) -> Result<String> {
    let dir = dir
        .to_str()
        .filter(|dir| !dir.contains(['"', '\n', '\\']))
        .ok_or_else(|| Error::Unusable(format!("{}: apt cannot use such a path", dir.display())))?;
    let mut text = format!(
        r#"APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::Retries "2";
Debug::NoLocking "true";
Dir::State "{dir}/state";
Dir::State::status "{dir}/status";
Dir::Cache "{dir}/cache";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "{dir}/empty";
Dir::Etc::sourcelist "{dir}/sources.list";
Dir::Etc::sourceparts "{dir}/empty";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "{dir}/empty";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "{dir}/empty";
"#
    );
    for line in host_settings {
        text.push_str(line);
        text.push('\n');
    }
    Ok(text)
}

/// The packages of `'URI' NAME_VERSION_ARCH.deb SIZE HASH` lines.
fn parse_print_uris(output: &str) -> Vec<Candidate> {
    output
        .lines()
        .filter_map(|line| {
            let mut fields = line.strip_prefix('\'')?.split_once("' ")?.1.split(' ');
            let mut parts = fields.next()?.strip_suffix(".deb")?.split('_');
            let name = parts.next()?.to_owned();
            let version = parts.next()?.replace("%3a", ":");
            Some(Candidate { name, version, size_bytes: fields.next()?.parse().ok()? })
        })
        .collect()
}

/// Thousandths done, from a `dlstatus:N:PERCENT:TEXT` line.
fn status_permille(line: &str) -> Option<u64> {
    let percent = line.strip_prefix("dlstatus:")?.split(':').nth(1)?;
    let (whole, fraction) = percent.split_once('.').unwrap_or((percent, "0"));
    let tenth = fraction.get(..1)?.parse::<u64>().ok()?;
    Some(whole.parse::<u64>().ok()? * 10 + tenth)
}

fn find_deb(dir: &Path, candidate: &Candidate) -> Result<Deb> {
    let prefix = format!("{}_{}_", candidate.name, candidate.version.replace(':', "%3a"));
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file.starts_with(&prefix) {
            let package = Package {
                package: candidate.name.clone(),
                version: candidate.version.clone(),
                sha256: sha256_file(&path)?,
                file,
            };
            return Ok(Deb { package, path });
        }
    }
    Err(Error::Unusable(format!("apt-get fetched no file {prefix}*.deb")))
}

/// Runs a program to its end and returns its stdout.
fn run(command: &mut Command) -> Result<String> {
    let what = format!("`{}`", command.get_program().to_string_lossy());
    let output = command.output().map_err(apt_spawn)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Error::Command { what, status: output.status.to_string(), stderr })
    }
}

fn archive_error(what: &str, error: Error) -> Error {
    match error {
        Error::Command { stderr, .. } => Error::Archive { what: what.to_owned(), stderr },
        other => other,
    }
}

fn apt_spawn(error: std::io::Error) -> Error {
    Error::spawn("apt-get", "fetch Debian packages", APT_REMEDY, error)
}

fn clone(file: &File) -> Result<Stdio> {
    file.try_clone().map(Stdio::from).map_err(Error::io("share", Path::new("a temporary file")))
}

fn read_back(file: &mut File) -> String {
    let mut text = String::new();
    // The text only explains a failure that is reported anyway.
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archives_are_found_among_those_of_other_vendors() {
        let uris = "'https://other.example/linux/dists/bookworm/InRelease' x 0 \n\
            'http://mirror.example/debian/dists/bookworm/InRelease' x 0 \n\
            'http://mirror.example/debian/dists/bookworm-updates/InRelease' x 0 \n\
            'http://mirror.example/debian-security/dists/bookworm-security/InRelease' x 0 \n\
            'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' x 0 \n\
            'https://node.example/node/dists/nodistro/InRelease' x 0 \n";
        assert_eq!(
            parse_archives(uris),
            (
                Some("http://mirror.example/debian".to_owned()),
                Some("http://mirror.example/debian-security".to_owned())
            )
        );
        assert_eq!(parse_archives("'https://u.example/ubuntu/dists/noble/InRelease' x 0"), (None, None));
    }

    #[test]
    fn candidates_keep_epochs_and_sizes() {
        let output = "'http://m.example/q_11.1.3%2bds-1_amd64.deb' qemu-system-x86_1%3a11.1.3+ds-1_amd64.deb 10377056 MD5Sum:0\n\
            'http://m.example/l.deb' libc6_2.41-12_amd64.deb 2846580 \nReading…\n";
        let candidates = parse_print_uris(output);
        assert_eq!(candidates.len(), 2);
        assert_eq!(candidates[0].name, "qemu-system-x86");
        assert_eq!(candidates[0].version, "1:11.1.3+ds-1");
        assert_eq!(candidates[0].directory_name(), "11.1.3+ds-1");
        assert_eq!(candidates[1].directory_name(), "2.41-12");
        assert_eq!(candidates[1].size_bytes, 2_846_580);
    }

    #[test]
    fn the_status_line_gives_thousandths() {
        assert_eq!(status_permille("dlstatus:2:85.4162:Retrieving file 2 of 3"), Some(854));
        assert_eq!(status_permille("dlstatus:1:100:done"), Some(1000));
        assert_eq!(status_permille("Get:1 http://m.example trixie"), None);
    }

    #[test]
    fn trixie_has_its_backports_and_security() {
        let host = HostArchive {
            main: "http://m.example/debian".into(),
            security: Some("http://m.example/debian-security".into()),
            settings: Vec::new(),
        };
        let text = sources_list(Suite::Trixie, &host, "k.gpg");
        assert!(text.contains("deb [signed-by=k.gpg] http://m.example/debian trixie main\n"), "{text}");
        assert!(text.contains("http://m.example/debian-security trixie-security main\n"), "{text}");
        assert!(text.contains("http://m.example/debian trixie-backports main\n"), "{text}");
        assert_eq!(sources_list(Suite::Bookworm, &host, "k.gpg").lines().count(), 2);
    }

    #[test]
    fn only_network_settings_of_the_host_are_taken_over() {
        let dump = "Acquire::http::Proxy \"http://p.example:3142\";\nDPkg::Post-Invoke:: \"rm -f *\";\nAcquire::https::Timeout \"5\";\n";
        assert_eq!(
            parse_network_settings(dump),
            ["Acquire::http::Proxy \"http://p.example:3142\";", "Acquire::https::Timeout \"5\";"]
        );
    }

    #[test]
    fn a_path_that_would_end_the_quotes_is_refused() {
        assert!(configuration(Path::new("/c/a\"b"), &[]).is_err());
        assert!(configuration(Path::new("/c/a b"), &[]).unwrap().contains("Dir::Cache \"/c/a b/cache\";"));
    }
}
