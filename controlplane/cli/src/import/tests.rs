//! Whole imports: each is judged by the validator that the planes use, and what was left out is looked at by its words.

use ringway_controlplane::source::file;
use serde_json::Value;

use super::*;

/// Objects, and what was left out, a line each.
struct Imported {
    objects: Value,
    left_out: Vec<String>,
    disabled: Vec<String>,
    closed: Vec<String>,
    notes: Vec<String>,
}

/// As `run` does it; what would be written is valid, also after it went through YAML.
fn judged(mut found: Found) -> Imported {
    settle::settle(&mut found);
    found.close_opened();
    let objects = found.document();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("objects.yaml");
    std::fs::write(&path, yaml::document(&objects)).unwrap();
    assert_eq!(file::check(&path).unwrap_or_else(|faults| panic!("{faults:?}\n{objects:#}")), found.count());
    let left = |left: &found::LeftOut| format!("{}: {}: {}", left.at, left.what, left.why);
    let left_out = found.left_out().iter().map(left).collect();
    let all = |ids: &std::collections::BTreeSet<String>| ids.iter().cloned().collect();
    Imported {
        objects,
        left_out,
        disabled: all(found.disabled()),
        closed: all(found.closed()),
        notes: found.notes().to_vec(),
    }
}

impl Imported {
    fn object(&self, kind: &str, id: &str) -> &Value {
        let list = self.objects[kind].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter()
            .find(|object| object["id"] == id)
            .unwrap_or_else(|| panic!("no {kind}/{id} in {:#}", self.objects))
    }

    fn ids(&self, kind: &str) -> Vec<&str> {
        self.objects[kind]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|object| object["id"].as_str())
            .collect()
    }

    /// The status with which the gateway itself answers requests of a route.
    fn answers(&self, id: &str) -> &Value {
        assert_ne!(
            self.object("routes", id)["status"],
            0,
            "its requests would go to the next route that matches"
        );
        &self.object("routes", id)["plugins"]["fault-injection"]["abort"]["http_status"]
    }

    #[track_caller]
    fn leaves_out(&self, words: &[&str]) {
        let is_there = self.left_out.iter().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(is_there, "{words:?} in {:#?}", self.left_out);
    }
}

fn nginx(files: &[(&str, &str)]) -> Imported {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let mut found = Found::default();
    nginx::read(&dir.path().join(files[0].0), &mut found).unwrap_or_else(|error| panic!("{error}"));
    judged(found)
}

fn apisix(text: &str) -> Imported {
    let mut found = Found::default();
    apisix::read("dump", text, &mut found).unwrap_or_else(|error| panic!("{error}"));
    judged(found)
}

fn openapi(text: &str, options: &openapi::Options<'_>) -> Imported {
    let mut found = Found::default();
    openapi::read("api.yaml", text, options, &mut found).unwrap_or_else(|error| panic!("{error}"));
    judged(found)
}

const SHOP: &str = r#"
user www-data;
events { worker_connections 768; }
http {
  include mime.types;
  include sites/*.conf;
  gzip on;
  upstream shop {
    least_conn;
    server 10.0.0.5:8080 weight=3 max_fails=2;
    server 10.0.0.6:8080 backup;
    server shop.internal down;
    keepalive 16;
  }
  server {
    listen 80 default_server;
    listen 443 ssl;
    server_name shop.example.com *.shop.example.com;
    proxy_set_header Host $host;
    proxy_read_timeout 90s;
    location / { proxy_pass http://shop; }
    location = /health { proxy_pass http://shop; }
    location ^~ /ws/ {
      proxy_set_header Host backend.internal;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_pass http://127.0.0.1:9000;
    }
    location ~ ^/v1/ { proxy_pass http://shop; }
    location ~ \.php$ { fastcgi_pass unix:/run/php.sock; }
    location /static/ { root /srv; }
    location /admin/ { allow 10.0.0.0/8; deny all; proxy_pass http://shop; }
    location /old/ { rewrite ^/old/(.*)$ /new/$1 break; proxy_pass http://shop; }
    location /moved/ { proxy_pass http://shop/elsewhere/; }
    location /same/ { proxy_pass http://shop/same/; }
  }
  server { listen 80; server_name go.example.com; return 301 https://shop.example.com$request_uri; }
  server { server_name ~^(?<tenant>.+)\.example\.org$; location / { proxy_pass http://shop; } }
}
"#;

#[test]
fn nginx_servers_and_locations_become_routes_and_the_rest_is_listed_by_line() {
    let site = "server { location / { proxy_pass http://[::1]:3000; } }";
    let got = nginx(&[("nginx.conf", SHOP), ("sites/one.conf", site), ("mime.types", "types { a b; }")]);
    let root = got.object("routes", "shop.example.com");
    assert_eq!(root["uri"], "/*");
    assert_eq!(root["hosts"], json!(["shop.example.com", "*.shop.example.com"]));
    assert_eq!(root["timeout"]["read"].as_f64(), Some(90.0));
    let shop = got.object("upstreams", root["upstream_id"].as_str().unwrap());
    assert_eq!(shop["type"], "least_conn");
    assert_eq!(
        shop["nodes"],
        json!([{"host": "10.0.0.5", "port": 8080, "weight": 3}, {"host": "10.0.0.6", "port": 8080, "weight": 1, "priority": -1},
            {"host": "shop.internal", "port": 80, "weight": 0}])
    );
    assert!(shop.get("pass_host").is_none(), "the client's Host is passed");
    let ws = got.object("routes", "shop.example.com-ws");
    assert_eq!((&ws["enable_websocket"], &ws["uri"]), (&json!(true), &json!("/ws/*")));
    let ws_upstream = got.object("upstreams", ws["upstream_id"].as_str().unwrap());
    assert_eq!(ws_upstream["upstream_host"], "backend.internal");
    assert_eq!(got.object("routes", "shop.example.com-health")["uri"], "/health");
    assert_eq!(got.object("routes", "shop.example.com-v1")["uri"], "/v1/*");
    assert_eq!(got.object("routes", "shop.example.com-same")["uri"], "/same/*");
    // nginx sends the name in `proxy_pass` where nothing is said.
    let any = got.object("routes", "any");
    assert!(any.get("hosts").is_none());
    assert_eq!(got.object("upstreams", any["upstream_id"].as_str().unwrap())["upstream_host"], "[::1]:3000");

    got.leaves_out(&["nginx.conf:7", "gzip on"]);
    got.leaves_out(&["nginx.conf:10", "max_fails=2 of 10.0.0.5:8080"]);
    got.leaves_out(&["nginx.conf:17", "listen 443 ssl"]);
    got.leaves_out(&["nginx.conf:30", r"location ~ \.php$", "fastcgi_pass"]);
    got.leaves_out(&["nginx.conf:31", "location /static/"]);
    got.leaves_out(&["nginx.conf:32", "deny all"]);
    got.leaves_out(&["nginx.conf:33", "rewrite ^/old/(.*)$ /new/$1 break"]);
    got.leaves_out(&["nginx.conf:34", "it changes the path"]);
    got.leaves_out(&["nginx.conf:37", "return 301"]);
    got.leaves_out(&["nginx.conf:38", "none of its names"]);
    let closed = ["shop.example.com-admin", "shop.example.com-moved", "shop.example.com-static"];
    assert_eq!(got.closed, closed);
    assert_eq!(got.answers("shop.example.com-admin"), 403);
}

#[test]
fn what_nginx_kept_from_its_nodes_does_not_reach_them_by_the_location_around_it() {
    let got = nginx(&[(
        "n.conf",
        r#"server { server_name a.b;
            location / { proxy_pass http://127.0.0.1:1; }
            location /denied { deny all; }
            location /gone/ { return 410; }
            location /moved/ { return 301 https://c.d/; }
            location = /inside { internal; proxy_pass http://127.0.0.1:1; }
            location /auth/ { auth_basic x; proxy_pass http://127.0.0.1:1; }
            location /elsewhere { proxy_pass http://$backend; }
            location ~ /\.ht { deny all; }
        }"#,
    )]);
    let root = got.object("routes", "a.b");
    assert_eq!((&root["uri"], root.get("plugins"), root.get("status")), (&json!("/*"), None, None));
    for (id, uri, status) in [
        ("a.b-denied", "/denied*", 403),
        ("a.b-gone", "/gone/*", 410),
        ("a.b-moved", "/moved/*", 403),
        ("a.b-inside", "/inside", 403),
        ("a.b-auth", "/auth/*", 403),
        ("a.b-elsewhere", "/elsewhere*", 403),
    ] {
        assert_eq!(
            (&got.object("routes", id)["uri"], got.answers(id)),
            (&json!(uri), &json!(status)),
            "{id}"
        );
        assert!(got.closed.contains(&id.to_owned()), "{id}");
    }
    assert!(
        got.notes.iter().any(|note| note.contains("n.conf:9") && note.contains("other routes")),
        "{:?}",
        got.notes
    );
}

#[test]
fn a_route_is_closed_when_its_plugin_configuration_or_service_lost_a_plugin_and_off_when_it_lost_a_condition()
{
    let got = apisix(
        r#"
plugin_configs:
  - {id: pc, plugins: {no-such-plugin: {}}}
  - {id: fine, plugins: {cors: {}}}
services:
  - {id: s, upstream_id: u, plugins: {no-such-plugin: {}}}
routes:
  - {id: by-config, uri: /a, upstream_id: u, plugin_config_id: pc}
  - {id: by-service, uri: /b, service_id: s}
  - {id: own, uri: /c, upstream_id: u, plugins: {no-such-plugin: {}, cors: {}}}
  - {id: condition, uri: /d, upstream_id: u, filter_func: "function(vars) return true end"}
  - {id: both, uri: /e, upstream_id: u, filter_func: "function(vars) return true end", plugins: {no-such-plugin: {}}}
  - {id: was-off, uri: /f, upstream_id: u, status: 0, plugins: {no-such-plugin: {}}}
  - {id: free, uri: /g, upstream_id: u, plugin_config_id: fine}
upstreams:
  - {id: u, nodes: {"127.0.0.1:1": 1}}
#END
"#,
    );
    assert_eq!(got.closed, ["both", "by-config", "by-service", "own"]);
    assert_eq!(got.disabled, ["condition"]);
    for id in ["both", "by-config", "by-service", "own"] {
        assert_eq!(got.answers(id), 403, "{id}");
    }
    assert!(got.object("routes", "own")["plugins"].get("cors").is_some());
    for (id, status) in [("condition", json!(0)), ("was-off", json!(0)), ("free", Value::Null)] {
        assert_eq!(got.object("routes", id)["status"], status, "{id}");
        assert!(got.object("routes", id)["plugins"].get("fault-injection").is_none(), "{id}");
    }
}

#[test]
fn the_same_place_on_two_ports_is_one_route_or_is_listed() {
    let two = |other: &str| {
        format!(
            "server {{ server_name a.b; location / {{ proxy_pass http://127.0.0.1:1; }} }} server {{ listen 443 ssl; server_name a.b; location / {{ proxy_pass http://127.0.0.1:{other}; }} }}"
        )
    };
    let got = nginx(&[("n.conf", &two("1"))]);
    assert_eq!((got.ids("routes"), got.left_out.len()), (vec!["a.b"], 1), "{:?}", got.left_out);
    nginx(&[("n.conf", &two("2"))]).leaves_out(&["another server has this name and path"]);
    let redirects = "server { server_name a.b; location / { return 301 https://a.b$request_uri; } }";
    let serves = "server { listen 443 ssl; server_name a.b; location / { proxy_pass http://127.0.0.1:1; } }";
    for both in [format!("{redirects} {serves}"), format!("{serves} {redirects}")] {
        let got = nginx(&[("n.conf", &both)]);
        assert_eq!((got.ids("routes"), got.closed.len()), (vec!["a.b"], 0), "{both}");
        assert!(got.object("routes", "a.b").get("plugins").is_none(), "{both}");
    }
    // What one of them refuses stays refused: it cannot be told which of them is the public one.
    let refuses = "server { server_name a.b; location / { deny all; } }";
    let asks = "server { server_name a.b; location / { auth_basic x; proxy_pass http://127.0.0.1:1; } }";
    for both in
        [refuses, asks].map(|other| [format!("{other} {serves}"), format!("{serves} {other}")]).concat()
    {
        let got = nginx(&[("n.conf", &both)]);
        assert_eq!(
            (got.ids("routes"), got.closed.as_slice()),
            (vec!["a.b"], &["a.b".to_owned()][..]),
            "{both}"
        );
        assert_eq!(got.answers("a.b"), 403, "{both}");
    }
}

#[test]
fn nginx_files_that_cannot_be_read_say_where() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n.conf");
    std::fs::write(&path, "http {\n server {\n").unwrap();
    let error = nginx::read(&path, &mut Found::default()).unwrap_err().to_string();
    assert!(error.contains("n.conf:3: the end of the file inside of a block"), "{error}");
    std::fs::write(&path, "include n.conf;").unwrap();
    let error = nginx::read(&path, &mut Found::default()).unwrap_err().to_string();
    assert!(error.contains("include each other"), "{error}");
    std::fs::write(&path, "include gone.conf;").unwrap();
    let mut found = Found::default();
    nginx::read(&path, &mut found).unwrap();
    assert_eq!(found.left_out().len(), 1);
}

#[test]
fn apisix_objects_pass_and_what_is_not_acted_on_is_listed_by_object_and_field() {
    let got = apisix(
        r#"
routes:
  - id: 1
    uri: /cart/*
    upstream_id: shop
    create_time: 1700000000
  - {id: guarded, uri: /admin/*, upstream_id: shop, plugins: {no-such-plugin: {}}}
  - {id: computed, uri: /x, upstream_id: shop, filter_func: "function(vars) return true end"}
  - {id: lost, uri: /y, upstream_id: grpc}
upstreams:
  - {id: shop, type: roundrobin, nodes: {"10.0.0.5:8080": 2}, tls: {verify: true}}
  - {id: grpc, nodes: {"10.0.0.5:8080": 1}, scheme: no-such-scheme}
no_such_kind: [{id: x}]
#END
"#,
    );
    assert_eq!(got.object("routes", "1"), &json!({"id": "1", "uri": "/cart/*", "upstream_id": "shop"}));
    got.leaves_out(&["routes/guarded", "/plugins/no-such-plugin"]);
    got.leaves_out(&["routes/computed", "/filter_func"]);
    got.leaves_out(&["upstreams/shop", "/tls"]);
    got.leaves_out(&["upstreams/grpc", "the whole object"]);
    got.leaves_out(&["routes/lost", "the whole object", "/upstream_id"]);
    got.leaves_out(&["dump", "no_such_kind"]);
    assert_eq!(
        (got.disabled.as_slice(), got.closed.as_slice()),
        (&["computed".to_owned()][..], &["guarded".to_owned()][..])
    );
    assert_eq!(got.ids("routes"), ["1", "computed", "guarded"]);
}

#[test]
fn answers_of_apisix_are_unwrapped() {
    let list = r#"{"total": 2, "list": [
        {"key": "/apisix/routes/1", "createdIndex": 5, "modifiedIndex": 9, "value": {"id": "1", "uri": "/a", "upstream_id": "u"}},
        {"key": "/apisix/upstreams/u", "value": {"id": "u", "nodes": {"127.0.0.1:1": 1}, "create_time": 1}}]}"#;
    let got = apisix(list);
    assert_eq!((got.ids("routes"), got.ids("upstreams"), got.left_out.len()), (vec!["1"], vec!["u"], 0));
    let one = r#"{"key": "/apisix/upstreams/u", "value": {"id": "u", "nodes": {"127.0.0.1:1": 1}}}"#;
    assert_eq!(apisix(one).ids("upstreams"), ["u"]);
    let configs = r#"{"routes": [{"id": "r", "uri": "/"}], "routes_conf_version": 7}"#;
    assert_eq!((apisix(configs).ids("routes"), apisix(configs).left_out.len()), (vec!["r"], 0));
    assert!(apisix::read("x", "[1]", &mut Found::default()).is_err());
}

const PETS: &str = r#"
openapi: 3.0.3
info: {title: Pet Store, version: "1"}
servers:
  - url: http://{region}.pets.internal:8080/v2
    variables: {region: {default: eu}}
  - url: http://us.pets.internal:8080/v2
  - url: https://pets.example.com/v3
paths:
  /pets:
    get: {operationId: listPets}
    post: {}
    summary: All pets
  /pets/{petId}:
    parameters: [{name: petId, in: path}]
    delete: {operationId: removePet, x-amazon-apigateway-integration: {}}
  /pets/{petId}.json: {get: {}}
  /hook: {post: {callbacks: {}}}
"#;

#[test]
fn openapi_paths_become_routes_below_their_servers() {
    let got = openapi(PETS, &openapi::Options { upstream: None, host: Some("pets.example.com") });
    let pets = got.object("routes", "Pet-Store-pets");
    assert_eq!((&pets["uri"], &pets["methods"]), (&json!("/v2/pets"), &json!(["GET", "POST"])));
    assert_eq!((&pets["host"], &pets["desc"]), (&json!("pets.example.com"), &json!("All pets")));
    assert_eq!(got.object("routes", "removePet")["uri"], "/v2/pets/:petId");
    let nodes = &got.object("upstreams", "Pet-Store")["nodes"];
    assert_eq!(
        (&nodes[0]["host"], &nodes[1]["host"]),
        (&json!("eu.pets.internal"), &json!("us.pets.internal"))
    );
    got.leaves_out(&["server https://pets.example.com:443/v3"]);
    got.leaves_out(&["/pets/{petId}.json", "only a part of its segment"]);
    got.leaves_out(&["x-amazon-apigateway-integration"]);
    got.leaves_out(&["/hook: post", "callbacks"]);

    let given = openapi(PETS, &openapi::Options { upstream: Some("10.0.0.1:80"), host: None });
    assert_eq!(given.object("routes", "removePet")["uri"], "/v2/pets/:petId");
    assert_eq!(given.object("upstreams", "Pet-Store")["nodes"][0]["host"], "10.0.0.1");
}

#[test]
fn older_descriptions_and_those_without_servers() {
    let swagger =
        r#"{"swagger": "2.0", "host": "127.0.0.1:8000", "basePath": "/api", "paths": {"/a": {"get": {}}}}"#;
    let got = openapi(swagger, &openapi::Options::default());
    assert_eq!(got.object("routes", "api-a")["uri"], "/api/a");
    let none = r#"{"openapi": "3.1.0", "paths": {"/a": {"get": {}}}}"#;
    openapi(none, &openapi::Options::default()).leaves_out(&["/a", "give --upstream"]);
    let given = openapi::Options { upstream: Some("127.0.0.1:8000"), host: None };
    assert_eq!(openapi(none, &given).ids("routes"), ["api-a"]);
    let relative = r#"{"openapi": "3.1.0", "servers": [{"url": "/base"}], "paths": {"/a": {"get": {}}}}"#;
    assert_eq!(openapi(relative, &given).object("routes", "api-a")["uri"], "/base/a");
    assert!(openapi::read("x", "{}", &given, &mut Found::default()).is_err());
}

#[test]
fn of_a_consumer_what_lets_in_or_only_tells_may_be_left_out_alone() {
    let answer = r#"{"consumers": [
        {"username": "jack", "plugins": {"key-auth": {"key": "k"}, "jwt-auth": {"key": "j"}}},
        {"username": "jill", "plugins": {"basic-auth": {"username": "u", "password": "$secret://vault/1/p"}, "key-auth": {"key": "l"}}},
        {"username": "joe", "plugins": {"key-auth": {"key": "m"}, "limit-count": {}}},
        {"username": "joan", "group_id": "none", "plugins": {"key-auth": {"key": "n"}}}]}"#;
    let got = apisix(answer);
    assert_eq!(got.ids("consumers"), ["jack", "jill"]);
    assert_eq!(got.left_out.len(), 4, "{:#?}", got.left_out);
    for (object, field) in [
        ("consumers/jack", "/plugins/jwt-auth"),
        ("consumers/jill", "/plugins/basic-auth/password"),
        ("consumers/joe", "/plugins/limit-count"),
        ("consumers/joan", "/group_id"),
    ] {
        got.leaves_out(&[object, field]);
    }
}

#[test]
fn consumers_come_with_their_credentials_and_whole_or_not_at_all() {
    let text = r#"{"list": [
        {"key": "/apisix/consumers/jack", "value": {"username": "jack", "plugins": {"key-auth": {"key": "k"}}, "create_time": 1}},
        {"key": "/apisix/consumers/jack/credentials/x", "value": {"id": "x", "plugins": {"basic-auth": {"username": "u", "password": "p"}}}},
        {"key": "/apisix/consumers/jill", "value": {"username": "jill", "plugins": {"key-auth": {"key": "l"}, "limit-count": {}}}},
        {"key": "/apisix/consumers/jill/credentials/y", "value": {"id": "y", "plugins": {"key-auth": {"key": "m"}}}}]}"#;
    let got = apisix(text);
    assert_eq!((got.ids("consumers"), got.ids("credentials")), (vec!["jack"], vec!["jack/credentials/x"]));
    assert_eq!(got.left_out.len(), 2, "{:?}", got.left_out);
    let standalone = r#"{"consumers": [{"username": "a"}, {"id": "a/credentials/1", "plugins": {"key-auth": {"key": "k"}}}]}"#;
    assert_eq!(apisix(standalone).ids("credentials"), ["a/credentials/1"]);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Whatever stands in it, what is written is valid: `judged` looks.
        #[test]
        fn an_import_of_any_locations_is_valid(
            names in proptest::collection::vec("[a-z*._~^]{1,12}", 0..3),
            locations in proptest::collection::vec(("(= |\\^~ |~ |)", "/[a-z:*./$^{}-]{0,10}", "[a-z0-9.:$/]{1,14}"), 0..5),
        ) {
            let body: String = locations
                .iter()
                .map(|(how, path, to)| format!("location {how}'{path}' {{ proxy_pass http://{to}; }}\n"))
                .collect();
            nginx(&[("n.conf", &format!("server {{ server_name {}; {body} }}", names.join(" ")))]);
        }

        #[test]
        fn an_import_of_any_paths_is_valid(paths in proptest::collection::btree_map("/[a-z{}:*/.-]{0,12}", Just(json!({"get": {}})), 0..6)) {
            let document = json!({"openapi": "3.0.0", "info": {"title": "t"}, "servers": [{"url": "http://a:1/b"}], "paths": paths});
            openapi(&document.to_string(), &openapi::Options::default());
        }

        #[test]
        fn an_import_of_any_object_is_valid(uri in "[/a-z*:]{0,8}", field in "[a-z_]{1,8}", id in "[a-z /]{0,4}", weight in -2_i64..3) {
            let document = json!({
                "routes": [{"id": id, "uri": uri, "upstream_id": "u", (field): {"a": [1]}}],
                "upstreams": [{"id": "u", "nodes": {"127.0.0.1:80": weight}}],
            });
            apisix(&document.to_string());
        }
    }
}
