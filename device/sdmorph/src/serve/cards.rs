//! From the arguments of commands to cards.

use std::path::{Path, PathBuf};

use sdmorph_control::{CardInsertArgs, CardKind, ImageFormat};
use sdmorph_machine::{CardKind as Kind, Medium, NewCard};
use sdmorph_media::{Format, OpenOptions, Waker};

/// The file that `path` names, as it is to be opened: inside `directory`, if there is one.
pub(crate) fn find_file(path: &str, directory: Option<&Path>) -> Result<PathBuf, String> {
    let Some(directory) = directory else { return Ok(PathBuf::from(path)) };
    let resolve = |path: &Path| {
        std::fs::canonicalize(path).map_err(|error| format!("cannot find {}: {error}", path.display()))
    };
    // Links are followed first: what counts is where the file is.
    let (directory, file) = (resolve(directory)?, resolve(&directory.join(path))?);
    if file.starts_with(&directory) {
        return Ok(file);
    }
    Err(format!(
        "{} is not in {}, and this server takes no other files (serve --images)",
        file.display(),
        directory.display()
    ))
}

/// Makes a card; its image has to be in `images`, if that is given. Opening it may take a moment.
pub(crate) fn new_card(
    arguments: &CardInsertArgs,
    images: Option<&Path>,
    waker: Waker,
) -> Result<NewCard, String> {
    let CardInsertArgs { kind, image, format, size, read_only, write_protect, serial } = arguments;
    let kind = match kind {
        CardKind::Sd => Kind::Sd,
        CardKind::SdExpress => Kind::SdExpress,
        CardKind::None => Kind::Empty,
    };
    let without =
        |what: &str, given: bool, why: &str| if given { Err(format!("'{what}' {why}")) } else { Ok(()) };
    if kind == Kind::Empty {
        let why = "is for a card, and an empty adapter has none";
        without("image", image.is_some(), why)?;
        without("size", size.is_some(), why)?;
        without("serial", serial.is_some(), why)?;
    }
    let medium = match image {
        Some(path) => {
            without("size", size.is_some(), "is for a card in memory; an image has a size of its own")?;
            let mut options = OpenOptions::new(waker);
            options.read_only = *read_only;
            options.format = format.map(|format| match format {
                ImageFormat::Raw => Format::Raw,
                ImageFormat::Qcow2 => Format::Qcow2,
            });
            let path = find_file(path, images)?;
            Some(sdmorph_media::open(path, options).map_err(|error| error.to_string())?.into())
        }
        None => {
            without("format", format.is_some(), "is for an image, and none is given")?;
            without("read-only", *read_only, "is for an image: a card in memory would be empty for ever")?;
            size.map(|size| Medium::memory(size.0))
        }
    };
    Ok(NewCard { medium, write_protect: *write_protect, serial: serial.unwrap_or(1), ..kind.into() })
}
