//! Functions that a call chain cannot show, because the compiler put them into their callers.
//!
//! The frame of such a function is its caller's. That it was inlined is not taken on trust: it is read from the very
//! module that the guest loaded, an ELF64 relocatable file, whose relocations name what each function calls
//! (System V ABI, AMD64 supplement, "Relocation Types": R_X86_64_PLT32 and R_X86_64_PC32).
//!
//! For `function` inlined into `into`, the module has to show that
//! - `function`, where it was compiled by itself, calls certain functions, and so does `into`;
//! - `into` never calls `function`;
//! - the oops's frame in `into` returns to right behind one of these calls.
//!
//! What it does not do: debug information (distributions ship it apart), functions in the kernel image, indirect
//! calls, and functions that are local to their file: calls of those leave no relocation behind.

use std::fs;
use std::path::Path;

use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, RelocationKind, RelocationTarget};
use serde::Serialize;

use crate::oops::Frame;
use crate::scenario::Inlined;

/// The opcode of a near call, before its 4 bytes of displacement.
const CALL: u8 = 0xe8;
/// The bytes of the displacement that a relocation fills in; the next instruction begins behind it.
const DISPLACEMENT_BYTES: u64 = 4;

/// A kernel module as the guest loaded it.
#[derive(Debug, Clone)]
pub struct LoadedModule {
    /// Its name, as the kernel prints it: with `_` for `-`.
    pub name: String,
    /// The file, decompressed.
    pub image: Vec<u8>,
}

impl LoadedModule {
    /// Read a module's file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Self { name: stem.replace('-', "_"), image: fs::read(path)? })
    }

    /// What the function `symbol` refers to, in the order of its code.
    ///
    /// # Errors
    /// When the file is no such ELF file, or has no such function: says so, for people.
    pub fn references(&self, symbol: &str) -> Result<Vec<Reference>, String> {
        let file = self.elf()?;
        let broken = |error: object::Error| format!("{}.ko: {error}", self.name);
        let function = self.function(&file, symbol)?;
        let index =
            function.section_index().ok_or_else(|| format!("{}.ko has no code of {symbol}", self.name))?;
        let section = file.section_by_index(index).map_err(broken)?;
        let code = section.data().map_err(broken)?;
        let start = function.address();
        let within = start..start.saturating_add(function.size());
        let mut references = Vec::new();
        for (at, relocation) in section.relocations().filter(|(at, _)| within.contains(at)) {
            let relative =
                matches!(relocation.kind(), RelocationKind::Relative | RelocationKind::PltRelative);
            let RelocationTarget::Symbol(target) = relocation.target() else { continue };
            let target = file.symbol_by_index(target).map_err(broken)?;
            let before = at.checked_sub(1).and_then(|at| code.get(usize::try_from(at).ok()?));
            references.push(Reference {
                symbol: target.name().map_err(broken)?.to_owned(),
                is_call: relative && before == Some(&CALL),
                returns_to: at - start + DISPLACEMENT_BYTES,
            });
        }
        references.sort_by_key(|reference| reference.returns_to);
        Ok(references)
    }

    fn elf(&self) -> Result<ElfFile64<'_, LittleEndian>, String> {
        ElfFile64::parse(self.image.as_slice())
            .map_err(|error| format!("{}.ko is no ELF64 file: {error}", self.name))
    }

    fn function<'file>(
        &self,
        file: &'file ElfFile64<'file, LittleEndian>,
        symbol: &str,
    ) -> Result<impl ObjectSymbol<'file>, String> {
        file.symbols()
            .find(|found| found.is_definition() && found.name() == Ok(symbol))
            .ok_or_else(|| format!("{}.ko has no function {symbol}", self.name))
    }

    fn is_global(&self, symbol: &str) -> Result<bool, String> {
        Ok(self.function(&self.elf()?, symbol)?.is_global())
    }
}

/// Something that a function's code refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Its name.
    pub symbol: String,
    /// It is called directly, not jumped to, and not read.
    pub is_call: bool,
    /// Where a call returns to, in bytes from the start of the function that calls.
    pub returns_to: u64,
}

/// A function that is in a call chain without a frame of its own, as proven from the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InlinedFrame {
    /// The function.
    pub function: String,
    /// Whose frame it shares.
    pub into: String,
    /// The module of both.
    pub module: String,
    /// What is called at the frame's place.
    pub calls: String,
    /// It stands before this entry of the oops's `chain`, which goes from the inside out. Counted from 0.
    pub chain_index: usize,
}

impl InlinedFrame {
    /// As a line of a call chain, for people.
    pub fn line(&self) -> String {
        let Self { function, into, module, calls, .. } = self;
        format!("{function} (inlined into {into}: {module}.ko calls {calls} there)")
    }
}

/// Prove that a frame of `rule.into` is also one of `rule.function`. `chain_index` is the frame's place in the chain.
///
/// # Errors
/// What is missing for a proof, for people.
pub fn prove(
    rule: &Inlined,
    frame: &Frame,
    chain_index: usize,
    modules: &[LoadedModule],
) -> Result<InlinedFrame, String> {
    let Inlined { function, into, calls } = rule;
    let name = frame.module.as_deref().ok_or_else(|| format!("{into} is not in a module"))?;
    let module = modules
        .iter()
        .find(|module| module.name == name)
        .ok_or_else(|| format!("the module {name} is not one that the guest was given"))?;
    // Of a local function the assembler resolves the calls itself: that there is no relocation would say nothing.
    if !module.is_global(function)? {
        return Err(format!("{function} is local to its file in {name}.ko, so calls of it cannot be told"));
    }
    let (by_itself, inside) = (module.references(function)?, module.references(into)?);
    if inside.iter().any(|reference| reference.symbol == *function) {
        return Err(format!("{into} calls {function} in {name}.ko"));
    }
    for (caller, references) in [(function, &by_itself), (into, &inside)] {
        let called = |call: &&String| references.iter().any(|found| found.is_call && found.symbol == **call);
        if let Some(call) = calls.iter().find(|call| !called(call)) {
            return Err(format!("{caller} does not call {call} in {name}.ko"));
        }
    }
    let here = inside.iter().find(|reference| reference.is_call && reference.returns_to == frame.offset);
    match here {
        Some(call) if calls.contains(&call.symbol) => Ok(InlinedFrame {
            function: function.clone(),
            into: into.clone(),
            module: name.to_owned(),
            calls: call.symbol.clone(),
            chain_index,
        }),
        Some(call) => {
            Err(format!("{into}+{:#x} is behind a call of {} in {name}.ko", frame.offset, call.symbol))
        }
        None => Err(format!("{into}+{:#x} is behind no call in {name}.ko", frame.offset)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use object::write;
    use object::{
        Architecture, BinaryFormat, Endianness, RelocationFlags, SymbolFlags, SymbolKind, SymbolScope, elf,
    };

    use super::*;

    /// A function for [`module`]: name, whether it is global, its calls by the offset that they return to.
    type Function<'a> = (&'a str, bool, &'a [(u64, &'a str)]);

    const WRITE: Function<'_> =
        ("rtsx_pci_write_register", true, &[(0x05, "__fentry__"), (0x42, "iowrite32"), (0x56, "ioread32")]);
    const SUB: Function<'_> =
        ("rtsx_set_l1off_sub", true, &[(0x05, "__fentry__"), (0x29, "iowrite32"), (0x3d, "ioread32")]);

    /// A relocatable file with these functions one behind the other, 0x60 bytes each.
    fn module(functions: &[Function<'_>]) -> LoadedModule {
        const FUNCTION_BYTES: u64 = 0x60;
        let mut file = write::Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let text = file.section_id(write::StandardSection::Text);
        let symbol = |name: &str, value, size, section, scope| write::Symbol {
            name: name.into(),
            value,
            size,
            kind: SymbolKind::Text,
            scope,
            weak: false,
            section,
            flags: SymbolFlags::None,
        };
        let mut code = vec![0x90; functions.len() * 0x60];
        for (number, (name, global, calls)) in functions.iter().enumerate() {
            let start = number as u64 * FUNCTION_BYTES;
            let scope = if *global { SymbolScope::Dynamic } else { SymbolScope::Compilation };
            file.add_symbol(symbol(name, start, FUNCTION_BYTES, write::SymbolSection::Section(text), scope));
            for (returns_to, _) in *calls {
                code[(start + returns_to - 5) as usize] = CALL;
            }
        }
        file.append_section_data(text, &code, 16);
        for (number, (_, _, calls)) in functions.iter().enumerate() {
            for (returns_to, target) in *calls {
                let target = file.symbol_id(target.as_bytes()).unwrap_or_else(|| {
                    let scope = SymbolScope::Unknown;
                    file.add_symbol(symbol(target, 0, 0, write::SymbolSection::Undefined, scope))
                });
                let relocation = write::Relocation {
                    offset: number as u64 * FUNCTION_BYTES + returns_to - DISPLACEMENT_BYTES,
                    symbol: target,
                    addend: -4,
                    flags: RelocationFlags::Elf { r_type: elf::R_X86_64_PLT32 },
                };
                file.add_relocation(text, relocation).unwrap();
            }
        }
        LoadedModule { name: "rtsx_pci".into(), image: file.write().unwrap() }
    }

    /// A module with the two functions as Debian 6.1's rtsx_pci.ko has them, the offsets in the second its own.
    pub(crate) fn rtsx_pci() -> LoadedModule {
        module(&[WRITE, SUB])
    }

    fn rule() -> Inlined {
        Inlined {
            function: WRITE.0.into(),
            into: SUB.0.into(),
            calls: ["iowrite32", "ioread32"].map(str::to_owned).to_vec(),
        }
    }

    fn frame(offset: u64, module: Option<&str>) -> Frame {
        Frame { symbol: SUB.0.into(), offset, size: 0x50, module: module.map(str::to_owned), reliable: true }
    }

    fn refused(functions: &[Function<'_>]) -> String {
        prove(&rule(), &frame(0x3d, Some("rtsx_pci")), 0, &[module(functions)]).unwrap_err()
    }

    #[test]
    fn calls_are_named_with_the_place_they_return_to() {
        let references = rtsx_pci().references("rtsx_set_l1off_sub").unwrap();
        let calls: Vec<_> = references
            .iter()
            .map(|reference| (reference.returns_to, reference.symbol.as_str(), reference.is_call))
            .collect();
        assert_eq!(calls, [(0x05, "__fentry__", true), (0x29, "iowrite32", true), (0x3d, "ioread32", true)]);
    }

    #[test]
    fn a_frame_behind_the_inlined_functions_call_is_proven_and_shown() {
        let proven = prove(&rule(), &frame(0x3d, Some("rtsx_pci")), 3, &[rtsx_pci()]).unwrap();
        assert_eq!((proven.chain_index, proven.calls.as_str()), (3, "ioread32"));
        assert_eq!(
            proven.line(),
            "rtsx_pci_write_register (inlined into rtsx_set_l1off_sub: rtsx_pci.ko calls ioread32 there)"
        );
    }

    #[test]
    fn a_function_that_is_still_called_is_not_inlined() {
        let calling = &[(0x29, "iowrite32"), (0x3d, "ioread32"), (0x50, "rtsx_pci_write_register")];
        let reason = refused(&[WRITE, (SUB.0, true, calling)]);
        assert_eq!(reason, "rtsx_set_l1off_sub calls rtsx_pci_write_register in rtsx_pci.ko");
    }

    #[test]
    fn a_caller_without_the_functions_calls_is_no_proof() {
        let reason = refused(&[WRITE, (SUB.0, true, &[(0x3d, "ioread32")])]);
        assert_eq!(reason, "rtsx_set_l1off_sub does not call iowrite32 in rtsx_pci.ko");
        let reason = refused(&[(WRITE.0, true, &[(0x42, "iowrite32")]), SUB]);
        assert_eq!(reason, "rtsx_pci_write_register does not call ioread32 in rtsx_pci.ko");
    }

    #[test]
    fn a_frame_anywhere_else_is_no_proof() {
        let at = |offset| prove(&rule(), &frame(offset, Some("rtsx_pci")), 0, &[rtsx_pci()]).unwrap_err();
        assert_eq!(at(0x05), "rtsx_set_l1off_sub+0x5 is behind a call of __fentry__ in rtsx_pci.ko");
        assert_eq!(at(0x3c), "rtsx_set_l1off_sub+0x3c is behind no call in rtsx_pci.ko");
    }

    #[test]
    fn a_local_function_or_one_that_is_not_there_is_no_proof() {
        assert!(refused(&[(WRITE.0, false, WRITE.2), SUB]).contains("is local to its file"));
        assert_eq!(refused(&[SUB]), "rtsx_pci.ko has no function rtsx_pci_write_register");
        assert_eq!(refused(&[WRITE]), "rtsx_pci.ko has no function rtsx_set_l1off_sub");
    }

    #[test]
    fn a_driver_that_is_built_in_or_another_module_is_no_proof() {
        let built_in = prove(&rule(), &frame(0x3d, None), 0, &[rtsx_pci()]).unwrap_err();
        assert_eq!(built_in, "rtsx_set_l1off_sub is not in a module");
        let absent = prove(&rule(), &frame(0x3d, Some("rtsx_pci")), 0, &[]).unwrap_err();
        assert_eq!(absent, "the module rtsx_pci is not one that the guest was given");
    }

    #[test]
    fn a_module_cut_anywhere_is_refused_without_a_panic() {
        let whole = rtsx_pci();
        for length in 0..whole.image.len() {
            let image = whole.image[..length].to_vec();
            let cut = LoadedModule { name: whole.name.clone(), image };
            assert!(prove(&rule(), &frame(0x3d, Some("rtsx_pci")), 0, &[cut]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn a_modules_name_is_the_kernels() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rtsx-pci.ko");
        fs::write(&path, "x").unwrap();
        assert_eq!(LoadedModule::read(&path).unwrap().name, "rtsx_pci");
    }
}
