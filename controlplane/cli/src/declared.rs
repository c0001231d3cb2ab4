//! The objects that stand in files: what `apply` and `diff` compare with what is stored.
//!
//! A file has the shape of APISIX's standalone file, as YAML or JSON; a folder stands for all `.yaml`, `.yml` and `.json` files in it and below.
//! Refused: keys that are no kind, an object that stands twice, and one without an id where there are several files, because its number in
//! its list would be another one's as well. Nothing is judged here that the Admin API judges.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ringway_controlplane::source::file;
use ringway_snapshot::Kind;
use serde_json::Value;

use crate::api::Named;
use crate::failure::{Doing as _, Failure};
use crate::plan::operation;

/// Bytes of one file.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Folders below a folder.
const DEPTH_MAX: usize = 32;
/// Fields that only the Admin API writes; a file may still have them from a dump of another gateway.
const TIMES: [&str; 2] = ["create_time", "update_time"];

/// Where the objects stand.
#[derive(Debug, clap::Args)]
pub(crate) struct FilesArgs {
    /// Files and folders with objects (YAML or JSON), `-` for standard input
    #[arg(short, long = "file", required = true, num_args = 1.., value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
}

impl FilesArgs {
    /// Whether standard input is used for objects.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.files.iter().any(|file| file.as_os_str() == "-")
    }
}

/// The objects of all files by kind and id, and the file of each.
#[derive(Debug, Default)]
pub(crate) struct Declared(BTreeMap<(Kind, String), (Value, String)>);

impl Declared {
    /// Reads all files.
    pub(crate) fn read(args: &FilesArgs) -> Result<Declared, Failure> {
        let mut files = Vec::new();
        for path in &args.files {
            if path.is_dir() {
                let before = files.len();
                folder(path, DEPTH_MAX, &mut files)?;
                if files.len() == before {
                    return Err(Failure::new(format!("no .yaml, .yml or .json file in {}", path.display())));
                }
            } else {
                files.push(path.clone());
            }
        }
        let mut declared = Declared::default();
        let alone = files.len() == 1;
        for path in &files {
            let name = path.display().to_string();
            let text = text(path).doing(|| format!("read {name}"))?;
            declared.add(&name, &text, alone).map_err(|why| Failure::new(format!("{name}: {why}")))?;
        }
        Ok(declared)
    }

    fn add(&mut self, file: &str, text: &str, alone: bool) -> Result<(), String> {
        let lists = match file::read(text)? {
            Value::Object(lists) => lists,
            Value::Null => return Ok(()),
            _ => return Err("must hold keys such as \"routes:\", each with a list of objects".to_owned()),
        };
        for (key, list) in lists {
            let Some(kind) = Kind::from_name(&key) else {
                let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
                return Err(format!("unknown key {key:?}; the keys are {}", names.join(", ")));
            };
            let objects = match list {
                Value::Array(objects) => objects,
                Value::Null => continue,
                _ => return Err(format!("{key} must be a list of objects")),
            };
            for (index, mut object) in objects.into_iter().enumerate() {
                let Value::Object(fields) = &object else {
                    return Err(format!("{key}[{index}] is not an object"));
                };
                let id = match fields.get("id").or_else(|| fields.get(kind.naming_field()?)) {
                    Some(Value::String(id)) => id.clone(),
                    Some(Value::Number(id)) => id.to_string(),
                    Some(_) => return Err(format!("{key}[{index}]: the id is text or a whole number")),
                    None if alone => format!("arr_{}", index + 1),
                    None => {
                        return Err(format!(
                            "{key}[{index}] has no id; give it one, as there are several files"
                        ));
                    }
                };
                without_times(&mut object);
                let place = (kind.in_list(&id), id);
                if let Some((_, other)) = self.0.get(&place) {
                    let id = &place.1;
                    return Err(format!("{key}/{id} stands twice: here and in {other}; take one away"));
                }
                self.0.insert(place, (object, file.to_owned()));
            }
        }
        Ok(())
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether an object stands in a file.
    pub(crate) fn has(&self, kind: Kind, id: &str) -> bool {
        self.0.contains_key(&(kind, id.to_owned()))
    }

    /// One `put` an object.
    pub(crate) fn operations(&self) -> Vec<Value> {
        let put = |((kind, id), (value, _)): (&(Kind, String), &(Value, String))| {
            let mut value = value.clone();
            if let Value::Object(fields) = &mut value {
                fields.remove("id");
            }
            operation("put", kind.name(), id, Some(value))
        };
        self.0.iter().map(put).collect()
    }

    fn file_of(&self, object: &str) -> Option<&str> {
        let (kind, id) = object.split_once('/')?;
        let (_, file) = self.0.get(&(Kind::from_name(kind)?, id.to_owned()))?;
        Some(file)
    }
}

/// Operations that were made of files.
#[derive(Debug)]
pub(crate) struct Sent<'a> {
    pub(crate) declared: &'a Declared,
    pub(crate) operations: &'a [Value],
}

impl Named for Sent<'_> {
    fn object(&self, operation: Option<usize>) -> Option<String> {
        let operation = self.operations.get(operation?)?;
        Some(format!("{}/{}", operation["kind"].as_str()?, operation["id"].as_str()?))
    }

    fn place(&self, object: &str) -> Option<String> {
        self.declared.file_of(object).map(ToOwned::to_owned)
    }
}

/// Takes out what only the Admin API writes.
pub(crate) fn without_times(object: &mut Value) {
    let Value::Object(fields) = object else { return };
    TIMES.iter().for_each(|name| drop(fields.remove(*name)));
    if let Some(Value::Object(upstream)) = fields.get_mut("upstream") {
        TIMES.iter().for_each(|name| drop(upstream.remove(*name)));
    }
}

/// A file's text, or that of standard input.
pub(crate) fn text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().lock().take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    }
    Ok(text)
}

fn folder(path: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let doing = || format!("read the folder {}", path.display());
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Failure::new(format!("{}: more than {DEPTH_MAX} folders deep", path.display())));
    };
    let entries = std::fs::read_dir(path).doing(doing)?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>().doing(doing)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // Links to folders could lead in a circle; links to files are how mounted configurations come.
        if entry.file_type().doing(doing)?.is_dir() {
            folder(&path, depth, found)?;
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json")
            && !path.is_dir()
        {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<Declared, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let args = FilesArgs { files: vec![dir.path().to_owned()] };
        Declared::read(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn a_folder_is_read_whole_but_for_what_is_hidden_or_something_else() {
        let declared = read(&[
            ("a.yaml", "routes:\n- {id: 1, uri: /a, create_time: 5}\n"),
            ("below/b.json", r#"{"upstreams": [{"id": "u", "nodes": {}}]}"#),
            (".hidden.yaml", "nonsense: ["),
            ("README.md", "nonsense"),
            ("empty.yml", "# nothing\n"),
        ])
        .unwrap();
        assert_eq!(
            declared.operations(),
            [
                json!({"op": "put", "kind": "routes", "id": "1", "value": {"uri": "/a"}}),
                json!({"op": "put", "kind": "upstreams", "id": "u", "value": {"nodes": {}}})
            ]
        );
        let operations = declared.operations();
        let sent = Sent { declared: &declared, operations: &operations };
        assert_eq!(sent.object(Some(1)).as_deref(), Some("upstreams/u"));
        assert!(sent.place("upstreams/u").unwrap().ends_with("below/b.json"));
    }

    #[test]
    fn what_cannot_be_read_in_one_way_is_refused() {
        for (files, want) in [
            (&[("a.yaml", "route: []\n")][..], "a.yaml: unknown key \"route\"; the keys are upstreams,"),
            (&[("a.yaml", "routes: 1\n")], "routes must be a list"),
            (&[("a.yaml", "routes: [x]\n")], "routes[0] is not an object"),
            (&[("a.yaml", "routes: [")], "not valid YAML"),
            (&[("a.yaml", "routes: [{uri: /a}]\n"), ("b.yaml", "")], "routes[0] has no id"),
            (
                &[("a.yaml", "routes: [{id: 1, uri: /a}]\n"), ("b.yaml", "routes: [{id: '1', uri: /b}]")],
                "routes/1 stands twice",
            ),
            (&[("a.txt", "")], "no .yaml, .yml or .json file"),
        ] {
            let refused = read(files).unwrap_err();
            assert!(refused.contains(want), "{refused}");
        }
        assert!(read(&[("a.yaml", "routes: [{uri: /a}]\n")]).unwrap().has(Kind::Route, "arr_1"));
    }
}
