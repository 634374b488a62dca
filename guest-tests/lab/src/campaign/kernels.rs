//! The columns: what the plan says of a kernel before it is fetched or built.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::plan::{PlannedKernel, hexadecimal, is_path_component};
use crate::assets::{KernelChoice, Kernels, KernelsError, Known};
use crate::failure::Failure;

/// What the plan says of a kernel. What it really is becomes known when it has been obtained: a stock kernel may have an
/// update by then.
pub(crate) fn plan(choice: &KernelChoice) -> Result<PlannedKernel, Failure> {
    let planned = |name: String, title: String, content: String| PlannedKernel {
        name,
        title,
        content,
        choice: choice.clone(),
    };
    match choice {
        KernelChoice::Named(named) => {
            let refuse = |error: KernelsError| Failure::Options(error.to_string());
            let kernels = Kernels::shipped().map_err(refuse)?;
            let mut digest = Sha256::new();
            match kernels.find(named).map_err(refuse)? {
                Known::Stock(stock) => digest.update(format!("{} {}", stock.package, stock.suite)),
                Known::Build(build) => {
                    digest.update(&build.source.package);
                    for text in build.configs.iter().chain(&build.patches) {
                        // With its length: nothing can move from one text to the next unnoticed.
                        digest.update(format!("\n{} {}\n{}", text.name, text.text.len(), text.text));
                    }
                }
            }
            let title = kernels.title(&named.name).to_owned();
            Ok(planned(named.full_name(), title, hexadecimal(&digest.finalize())))
        }
        KernelChoice::Own(own) => {
            let image = fs::read(&own.image).map_err(Failure::file("read", &own.image))?;
            let name = file_name(&own.image);
            let title = format!("a kernel of the user's own, {name}");
            Ok(planned(name, title, hexadecimal(&Sha256::digest(&image))))
        }
        KernelChoice::Tree(tree) => {
            // What is in it is known when it has been built.
            let dir = fs::canonicalize(&tree.dir).map_err(Failure::file("find", &tree.dir))?;
            let name = file_name(&dir);
            let title = format!("a tree of the user's own, {name}");
            let content = format!("tree {} {}", dir.display(), tree.configs.join(" "));
            Ok(planned(name, title, hexadecimal(&Sha256::digest(content))))
        }
    }
}

/// The last part of a path: the rest of it is nobody's business. `own` if no directory can be called so.
fn file_name(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if is_path_component(&name) { name } else { "own".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::{NamedKernel, OwnTree};

    fn named(name: &str, patch: Option<&Path>) -> PlannedKernel {
        let patches = patch.map(Path::to_owned).into_iter().collect();
        let named = NamedKernel { name: name.to_owned(), patches, configs: Vec::new() };
        plan(&KernelChoice::Named(named)).unwrap()
    }

    #[test]
    fn kernels_are_what_they_are_made_of() {
        let root = tempfile::tempdir().unwrap();
        let patch = root.path().join("fix.patch");
        fs::write(&patch, "one").unwrap();
        let none = named("6.1-none", None);
        assert_ne!(none.content, named("6.1-diff-2", None).content);
        assert_ne!(none.content, named("6.1", None).content);
        let one = named("6.1-none", Some(&patch));
        assert_eq!(one.name, "6.1-none+fix");
        assert_ne!(one.content, none.content);
        fs::write(&patch, "two").unwrap();
        assert_ne!(named("6.1-none", Some(&patch)).content, one.content);
        assert_eq!(named("6.1-none", None), none);
    }

    #[test]
    fn an_own_kernel_is_called_by_the_last_part_of_its_path() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("linux-next");
        fs::create_dir(&dir).unwrap();
        let tree = plan(&KernelChoice::Tree(OwnTree { dir, configs: Vec::new() })).unwrap();
        assert_eq!(
            (tree.name.as_str(), tree.title.as_str()),
            ("linux-next", "a tree of the user's own, linux-next")
        );
        assert_eq!(file_name(Path::new("/a b")), "own");
    }
}
