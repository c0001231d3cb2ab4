//! The dashboard in a real browser, against real planes and a real PostgreSQL.
//!
//! With RINGWAY_PICTURES=FOLDER it leaves pictures of the page there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::stand::{ADMIN_KEY, Client, Stand};

/// A name that would be a script if any part of the page took text for markup.
const SCRIPT: &str = "<script>window.broken = 1</script><img src=x onerror=\"window.broken = 1\">";

/// A gateway with a few routes, one of them with an unfriendly name, and a node that is not there.
fn shop() -> (Stand, String) {
    let mut stand = Stand::whole();
    let nodes = ["blue", "green"].map(|name| stand.backend(name).to_string());
    let [blue, green] = &nodes;
    let sql = stand.cluster.sql();
    let quoted = |value: &Value| value.to_string().replace('\'', "''");
    let objects = [
        ("upstreams", "shop", json!({"type": "least_conn", "nodes": {blue: 3, green: 1}, "desc": SCRIPT})),
        (
            "upstreams",
            "search",
            json!({"nodes": {green: 1, "127.0.0.1:9": 1}, "checks": {"active": {"type": "tcp", "healthy": {"interval": 1}, "unhealthy": {"interval": 1, "tcp_failures": 1}}}}),
        ),
        (
            "services",
            "storefront",
            json!({"name": "storefront", "hosts": ["shop.example.com", "*.shop.example.com"], "upstream_id": "shop"}),
        ),
        ("routes", "cart", json!({"uri": "/cart/*", "methods": ["GET", "POST"], "service_id": "storefront"})),
        (
            "routes",
            "product",
            json!({"uri": "/products/:id", "methods": ["GET"], "service_id": "storefront", "priority": 5}),
        ),
        ("routes", "search", json!({"uri": "/search", "host": "shop.example.com", "upstream_id": "search"})),
        ("routes", "home", json!({"uri": "/", "service_id": "storefront"})),
        (
            "routes",
            "unfriendly",
            json!({"name": SCRIPT, "desc": SCRIPT, "uri": "/<script>alert(1)</script>", "upstream_id": "shop"}),
        ),
    ];
    for (kind, id, value) in &objects {
        sql.run(&format!(
            "insert into ringway.resource (kind, id, spec) values ('{kind}', '{id}', '{}')",
            quoted(value)
        ));
    }
    sql.run(r#"update ringway.resource set spec = spec || '{"uri": "/basket/*", "desc": "<b>bold</b>"}' where id = 'cart'"#);
    sql.run("insert into ringway.resource (kind, id, spec) values ('routes', 'old', '{\"uri\": \"/old\"}')");
    sql.run("delete from ringway.resource where id = 'old'");
    stand.wait_for_every_core(sql.number("select revision from ringway.head"));
    let admin = stand.control_status().unwrap()["admin"].as_str().unwrap().to_owned();
    (stand, format!("http://{admin}"))
}

/// Requests one after the other until it is dropped.
struct Traffic(Arc<AtomicBool>, Vec<std::thread::JoinHandle<()>>);

impl Traffic {
    fn to(stand: &Stand) -> Traffic {
        let ends = Arc::new(AtomicBool::new(false));
        let (http, paths) = (stand.http(), ["/", "/products/7", "/basket/1", "/search", "/nowhere"]);
        let run = |from: usize| {
            let ends = Arc::clone(&ends);
            std::thread::spawn(move || {
                let mut client = Client::connect(http);
                for path in paths.iter().cycle().skip(from) {
                    if ends.load(Relaxed) {
                        return;
                    }
                    client.get("shop.example.com", path);
                }
            })
        };
        let threads = (0..3).map(run).collect();
        Traffic(ends, threads)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        self.1.drain(..).for_each(|thread| drop(thread.join()));
    }
}

#[test]
fn the_dashboard_shows_the_gateway_and_runs_nothing_that_a_name_says() {
    let Some(mut browser) = Browser::start() else { return };
    let (stand, admin) = shop();
    let _traffic = Traffic::to(&stand);
    browser.look(1400, "light");

    browser.open(&format!("{admin}/ui/"));
    browser.wait("!document.getElementById('gate').hidden");
    assert_eq!(browser.troubles(), Vec::<String>::new());
    browser.type_into("#key", "not-the-key");
    browser.press_enter();
    browser.wait("document.getElementById('gate-error').textContent.includes('does not know this key')");
    // A refused key is a failed request, which the browser notes by itself.
    let others = browser.troubles().into_iter().filter(|trouble| !trouble.contains("401"));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<String>::new());
    browser.type_into("#key", ADMIN_KEY);
    browser.press_enter();
    browser.wait("!document.getElementById('board').hidden");
    assert_eq!(browser.js("sessionStorage.getItem('ringway.key')"), ADMIN_KEY);
    assert_eq!(browser.js("localStorage.length + document.cookie.length"), 0);

    browser.wait("/[1-9]/.test(document.querySelector('.tile .figure').textContent)");
    browser.wait("document.querySelectorAll('#cores tbody tr').length === 2");
    browser.wait("document.querySelector('#fleet').textContent.includes('stand (this)')");
    browser.wait("document.querySelector('#upstreams').textContent.includes('unhealthy')");
    browser.wait("document.querySelectorAll('#routes tbody tr').length >= 5");
    browser.wait("document.querySelectorAll('#changes details').length > 5");
    changes(&mut browser);
    routes(&mut browser);
    explain(&mut browser);

    assert_eq!(browser.js("window.broken ?? null"), Value::Null, "text became code");
    assert_eq!(
        browser.js("document.querySelectorAll('main script, main b, main img, dialog img').length"),
        0,
        "text became markup"
    );
    assert_eq!(browser.troubles(), Vec::<String>::new());
    accessible(&mut browser);
    pictures(&mut browser);

    // A reload keeps the key, the button forgets it.
    browser.open(&format!("{admin}/ui/"));
    browser.wait("!document.getElementById('board').hidden");
    browser.js("document.getElementById('forget').click()");
    browser.wait("!document.getElementById('gate').hidden && sessionStorage.getItem('ringway.key') === null");
    assert_eq!(browser.troubles(), Vec::<String>::new());
}

fn changes(browser: &mut Browser) {
    let open = "[...document.querySelectorAll('#changes details')].find((one) => one.textContent.includes('routes/cart') && one.textContent.includes('changed'))";
    browser.js(&format!("{open}.open = true"));
    let text = browser.js(&format!("{open}.textContent"));
    let text = text.as_str().unwrap();
    assert!(text.contains("/uri: \"/cart/*\" → \"/basket/*\""), "{text}");
    assert!(text.contains("/desc: \"<b>bold</b>\""), "{text}");
    // What is open stays open when the page is drawn anew.
    let drawn = browser.js("document.getElementById('clock').textContent");
    browser.wait(&format!("document.getElementById('clock').textContent !== {drawn}"));
    assert_eq!(browser.js(&format!("{open}.open")), true);
}

fn routes(browser: &mut Browser) {
    browser.type_into("#search", "<SCRIPT>");
    browser.wait("document.querySelector('#routes-count').textContent.startsWith('1 of ')");
    browser.wait("document.querySelector('#routes').textContent.includes('/<script>alert(1)</script>')");
    browser.js("document.querySelector('#routes button').click()");
    browser.wait("document.querySelector('#object').open && document.querySelector('#object-text').textContent.includes('window.broken')");
    browser.js("document.querySelector('#object-close').click()");
    browser.type_into("#search", "storefront-none");
    browser.wait("document.querySelector('#routes-count').textContent.startsWith('0 of ')");
    browser.type_into("#search", " ");
    browser.js("(() => { const search = document.querySelector('#search'); search.value = ''; search.dispatchEvent(new Event('input')); })()");
    browser.wait("document.querySelectorAll('#routes tbody tr').length >= 5");
}

fn explain(browser: &mut Browser) {
    browser.type_into("#host", "shop.example.com");
    browser.type_into("#path", "/products/7");
    browser.press_enter();
    browser.wait("document.querySelector('#explained').textContent.includes('product') && document.querySelector('#explained').textContent.includes('upstreams/shop')");
    browser.type_into("#path", "/a b");
    browser.press_enter();
    browser.wait("document.querySelector('#explained .error')?.textContent.includes('percent-encoded')");
    // The refusal is a failed request too.
    let others = browser.troubles().into_iter().filter(|trouble| !trouble.contains("400"));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<String>::new());
    browser.type_into("#path", "/products/7");
    browser.press_enter();
    browser.wait("document.querySelector('#explained').textContent.includes('upstreams/shop')");
}

/// What can be told without a person: names of fields, tables, buttons; contrast of each text with what is behind it.
fn accessible(browser: &mut Browser) {
    let unnamed = browser.js("[...document.querySelectorAll('input')].filter((one) => one.labels.length === 0).length + [...document.querySelectorAll('table')].filter((one) => !one.getAttribute('aria-label')).length + [...document.querySelectorAll('button')].filter((one) => one.textContent.trim() === '').length");
    assert_eq!(unnamed, 0);
    let contrast = r"(() => {
        const parse = (text) => text.match(/[\d.]+/g).map(Number);
        const light = ([r, g, b]) => { const part = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }; return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b); };
        const behind = (one) => { for (let at = one; at; at = at.parentElement) { const c = parse(getComputedStyle(at).backgroundColor); if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
        const poor = [];
        for (const one of document.querySelectorAll('body *')) {
            if (!one.checkVisibility() || ![...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
            const [a, b] = [light(parse(getComputedStyle(one).color)), light(behind(one))];
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (ratio < 4.5) poor.push(`${one.tagName} ${one.className} ${one.textContent.slice(0, 20)}: ${ratio.toFixed(1)}`);
        }
        return poor;
    })()";
    for scheme in ["light", "dark"] {
        browser.look(1400, scheme);
        assert_eq!(browser.js(contrast), json!([]), "contrast below 4.5 in {scheme}");
    }
    browser.look(400, "light");
    assert_eq!(
        browser.js("document.documentElement.scrollWidth <= 400"),
        true,
        "a narrow window scrolls sideways"
    );
}

fn pictures(browser: &mut Browser) {
    let Some(folder) = std::env::var_os("RINGWAY_PICTURES").map(std::path::PathBuf::from) else { return };
    for (name, width, scheme) in [("light", 1400, "light"), ("dark", 1400, "dark"), ("narrow", 400, "dark")] {
        browser.look(width, scheme);
        browser.picture(&folder.join(format!("dashboard-{name}.png")));
    }
}

#[test]
fn what_the_dashboard_asks_needs_a_key_and_reads_only() {
    let (stand, admin) = shop();
    let mut client = Client::connect(admin.trim_start_matches("http://").parse().unwrap());
    let mut ask = |method: &str, path: &str, key: &str| {
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nX-API-KEY: {key}\r\nContent-Length: 0\r\n\r\n");
        client.send(head.as_bytes()).unwrap()
    };
    let page = ask("GET", "/ui/", "");
    assert_eq!((page.status, page.field("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.field("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
    assert!(!String::from_utf8_lossy(&page.body).contains("stand"), "the page holds data");
    for path in [
        "info",
        "cores",
        "counters",
        "upstreams",
        "latency",
        "snapshot",
        "routes?search=cart",
        "explain?host=a&path=/",
    ] {
        let path = format!("/v1/dataplane/{path}");
        assert_eq!(ask("GET", &path, "").status, 401, "{path}");
        assert_eq!(ask("GET", &path, ADMIN_KEY).status, 200, "{path}");
        assert_eq!(ask("POST", &path, ADMIN_KEY).status, 405, "{path}");
    }
    assert_eq!(ask("GET", "/v1/dataplane/shutdown", ADMIN_KEY).status, 404);
    let bad = ask("GET", "/v1/dataplane/explain?host=a%3Bshutdown&path=/", ADMIN_KEY);
    assert_eq!(bad.status, 400, "{:?}", bad.json());
    assert!(stand.admin("show info json").is_some(), "the data plane has ended");
}
