//! The card's registers (5): OCR, CID, CSD, SCR and the SD Status, made from a [`Profile`](crate::Profile).

pub mod cid;
pub mod csd;
pub(crate) mod field;
pub mod ocr;
pub mod scr;
pub mod ssr;
