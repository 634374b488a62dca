//! Where sockets are when nobody says.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Name of the vfio-user socket in [`directory`].
pub(crate) const VFIO_USER: &str = "vfu.sock";
/// Name of the control socket in [`directory`].
pub(crate) const CONTROL: &str = "control.sock";

/// `$XDG_RUNTIME_DIR/sdmorph`, or `/tmp/sdmorph-UID`.
pub(crate) fn directory() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if Path::new(&dir).is_absolute() => Path::new(&dir).join("sdmorph"),
        _ => std::env::temp_dir().join(format!("sdmorph-{}", rustix::process::getuid().as_raw())),
    }
}

/// Makes [`directory`] if it is not there, and checks that it is ours alone.
///
/// # Errors
/// Somebody else's directory, or one that others may enter.
pub(crate) fn make_directory() -> anyhow::Result<PathBuf> {
    let dir = directory();
    match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("cannot make {}", dir.display())),
    }
    let metadata = std::fs::symlink_metadata(&dir).with_context(|| dir.display().to_string())?;
    let ours = metadata.is_dir() && metadata.uid() == rustix::process::getuid().as_raw();
    if !ours || metadata.permissions().mode() & 0o077 != 0 {
        bail!(
            "{} is not a directory of yours alone (mode 0700); give --socket-path and --control",
            dir.display()
        );
    }
    Ok(dir)
}
