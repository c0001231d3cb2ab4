//! The Admin API's key of a `ringway up`: drawn at random once, kept in DIR/admin.key for its owner alone.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use crate::failure::{Doing as _, Failure};
use crate::up::folder::Folder;

/// Random bytes of a key.
const KEY_BYTES: usize = 16;

/// The file with the key; made where it is missing.
pub(super) fn make(folder: &mut Folder) -> Result<PathBuf, Failure> {
    let path = folder.entry("admin.key");
    if fs::metadata(&path).is_ok_and(|facts| facts.len() > 0) {
        return Ok(path);
    }
    let mut bytes = [0; KEY_BYTES];
    let mut random = fs::File::open("/dev/urandom").doing(|| "open /dev/urandom".to_owned())?;
    random.read_exact(&mut bytes).doing(|| "read /dev/urandom".to_owned())?;
    let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    folder.note("admin.key")?;
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .doing(|| format!("write {}", path.display()))?;
    writeln!(file, "{key}").doing(|| format!("write {}", path.display()))?;
    Ok(path)
}
