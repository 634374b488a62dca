//! VERSION: what a client proposes and what it is answered ("Version" in the specification).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::header::Refusal;
use crate::spec::{DEFAULT_MAX_DATA_XFER_BYTES, DEFAULT_MAX_MSG_FDS};

/// Version and capabilities of one side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proposal {
    /// Major version.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
    /// Capabilities; `None` if there was no version data.
    pub capabilities: Option<Capabilities>,
}

/// The capabilities that this server knows. A missing one has the protocol's default; one it does not know is ignored,
/// as the specification lets future versions add some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// Most descriptors that the sender takes in one message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_msg_fds: Option<u32>,
    /// Most data that the sender takes in one message, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_data_xfer_size: Option<u32>,
    /// Most ranges of guest memory at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_dma_maps: Option<u32>,
    /// Page sizes of DMA_MAP, or'ed together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgsizes: Option<u64>,
    /// REGION_WRITE_MULTI is understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_multiple: Option<bool>,
}

impl Capabilities {
    /// Descriptors in one message that the sender takes.
    #[must_use]
    pub fn msg_fds(&self) -> u32 {
        self.max_msg_fds.unwrap_or(DEFAULT_MAX_MSG_FDS)
    }

    /// Bytes of data in one message that the sender takes.
    #[must_use]
    pub fn data_xfer_bytes(&self) -> u32 {
        self.max_data_xfer_size.unwrap_or(DEFAULT_MAX_DATA_XFER_BYTES)
    }

    /// Those of these capabilities that `proposed` has as well: an answer may not say more than was proposed.
    #[must_use]
    pub fn among(&self, proposed: &Self) -> Self {
        Self {
            max_msg_fds: proposed.max_msg_fds.and(self.max_msg_fds),
            max_data_xfer_size: proposed.max_data_xfer_size.and(self.max_data_xfer_size),
            max_dma_maps: proposed.max_dma_maps.and(self.max_dma_maps),
            pgsizes: proposed.pgsizes.and(self.pgsizes),
            write_multiple: proposed.write_multiple.filter(|wanted| *wanted).and(self.write_multiple),
        }
    }
}

/// The JSON of the version data.
#[derive(Serialize)]
struct VersionData {
    capabilities: Capabilities,
}

impl Proposal {
    /// Decodes the version data that follow the two numbers: UTF-8 JSON with one NUL at its end, or nothing.
    ///
    /// # Errors
    /// EINVAL: no NUL at the end, one before the end, or not the JSON that the specification describes.
    pub fn decode(major: u16, minor: u16, data: &[u8]) -> Result<Self, Refusal> {
        if data.is_empty() {
            return Ok(Self { major, minor, capabilities: None });
        }
        let text = match data.split_last() {
            Some((0, text)) if !text.contains(&0) => text,
            _ => return Err(Refusal::invalid("version data without exactly one NUL, at the end")),
        };
        let malformed = |error| Refusal::invalid(format!("version data are not the JSON expected: {error}"));
        // Objects first: a structure by itself would be read from an array, too.
        let mut data: Map<String, Value> = serde_json::from_slice(text).map_err(malformed)?;
        let capabilities = match data.remove("capabilities") {
            None => Capabilities::default(),
            Some(value @ Value::Object(_)) => serde_json::from_value(value).map_err(malformed)?,
            Some(_) => {
                return Err(Refusal::invalid("the capabilities of the version data are not an object"));
            }
        };
        Ok(Self { major, minor, capabilities: Some(capabilities) })
    }

    /// The body of a VERSION message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = self.major.to_ne_bytes().to_vec();
        body.extend(self.minor.to_ne_bytes());
        if let Some(capabilities) = self.capabilities {
            let data = VersionData { capabilities };
            // Numbers and booleans under fixed names cannot fail to be written.
            body.extend(serde_json::to_vec(&data).unwrap_or_default());
            body.push(0);
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(data: &[u8]) -> Result<Proposal, Refusal> {
        Proposal::decode(0, 1, data)
    }

    #[test]
    fn version_data_may_be_missing_and_so_may_everything_in_them() {
        assert_eq!(decode(b"").unwrap().capabilities, None);
        for empty in [&b"{}\0"[..], b"{\"capabilities\":{}}\0"] {
            let capabilities = decode(empty).unwrap().capabilities.unwrap();
            assert_eq!(capabilities, Capabilities::default());
            assert_eq!((capabilities.msg_fds(), capabilities.data_xfer_bytes()), (1, 1 << 20));
        }
    }

    #[test]
    fn unknown_capabilities_are_ignored() {
        let data = br#"{"capabilities":{"max_msg_fds":8,"migration":{"pgsize":4096},"twin_socket":{"supported":true}},"x":1}"#;
        let capabilities = decode(&[data, &b"\0"[..]].concat()).unwrap().capabilities.unwrap();
        assert_eq!(capabilities, Capabilities { max_msg_fds: Some(8), ..Capabilities::default() });
    }

    #[test]
    fn malformed_version_data_are_refused() {
        let deep = [&b"["[..]; 4096].concat();
        let bad: [&[u8]; 12] = [
            b"\0\0",
            b"{\"capabilities\":[16]}\0",
            b"{\"capabilities\":null}\0",
            b"{}",
            b"{}\0\0",
            b"{\0}\0",
            b"\0",
            b"[]\0",
            b"{\"capabilities\":{\"max_msg_fds\":-1}}\0",
            b"{\"capabilities\":{\"max_msg_fds\":\"8\"}}\0",
            b"\xff\0",
            &[&deep[..], b"\0"].concat(),
        ];
        for data in bad {
            assert!(decode(data).is_err(), "{:?}", String::from_utf8_lossy(&data[..data.len().min(40)]));
        }
    }

    #[test]
    fn answer_has_nothing_that_was_not_proposed() {
        let ours = Capabilities {
            max_msg_fds: Some(16),
            max_data_xfer_size: Some(1 << 20),
            max_dma_maps: Some(65535),
            pgsizes: Some(4096),
            write_multiple: Some(true),
        };
        assert_eq!(ours.among(&Capabilities::default()), Capabilities::default());
        let proposed =
            Capabilities { max_msg_fds: Some(1), write_multiple: Some(false), ..Capabilities::default() };
        assert_eq!(ours.among(&proposed), Capabilities { max_msg_fds: Some(16), ..Capabilities::default() });
        assert_eq!(ours.among(&ours), ours);
    }

    #[test]
    fn encoded_proposal_is_decoded_again_and_fits_qemu() {
        let proposal = Proposal {
            major: 0,
            minor: 1,
            capabilities: Some(Capabilities {
                max_msg_fds: Some(16),
                max_data_xfer_size: Some(u32::MAX),
                max_dma_maps: Some(u32::MAX),
                pgsizes: Some(4096),
                write_multiple: Some(false),
            }),
        };
        let body = proposal.encode();
        assert_eq!(decode(&body[4..]).unwrap(), proposal);
        // QEMU's request has 214 bytes, header included, and its reply may not be longer.
        assert!(body.len() + 16 <= 214, "{}", body.len());
    }
}
