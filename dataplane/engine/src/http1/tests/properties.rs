//! Properties that hold for any bytes: cuts do not matter, what is encoded reads back the same, and a parser by
//! others agrees on everything that is accepted.

use proptest::collection::vec;
use proptest::prelude::*;

use super::relay::{dechunk, relay_pieces, with_trailers};
use super::*;

/// Pieces that heads are made of, right and wrong ones.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let texts: Vec<&'static str> = vec![
        "GET",
        "POST",
        " ",
        " ",
        "/",
        "/a?b=c",
        "*",
        "http://t/",
        "HTTP/1.1",
        "HTTP/1.0",
        "HTTP/1.1 200 OK",
        "\r\n",
        "\r\n",
        "\r\n",
        "\r",
        "\n",
        "\t",
        ":",
        ": ",
        ",",
        ";",
        "Host: h\r\n",
        "Host: ",
        "Content-Length: 5\r\n",
        "Content-Length: ",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: ",
        "chunked",
        "Connection: ",
        "close",
        "keep-alive",
        "Upgrade: websocket\r\n",
        "Expect: 100-continue\r\n",
        "TE: trailers\r\n",
        "X: y\r\n",
        "5",
        "0",
        "\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n",
        "HTTP/1.1 204 \r\n",
    ];
    prop_oneof![
        8 => proptest::sample::select(texts).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
        1 => "[!-~]{1,40}".prop_map(String::into_bytes),
    ]
}

fn soup() -> impl Strategy<Value = Vec<u8>> {
    vec(fragment(), 0..14).prop_map(|pieces| pieces.concat())
}

/// A valid field that is not one of the gateway's own.
fn field() -> impl Strategy<Value = (String, Vec<u8>)> {
    let value = "([!-~]([ -~\t]{0,30}[!-~])?)?".prop_map(String::into_bytes);
    let long = vec(prop_oneof![Just(b'a'), 0x80..=0xff_u8, Just(b'"')], 0..200);
    ("x-[a-zA-Z0-9!#$%&'*+.^`|~-]{1,20}", prop_oneof![4 => value, 1 => long])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_do_not_change_how_a_request_head_is_read(bytes in soup()) {
        match request(&bytes) {
            Ok(Parse::Partial) => for end in 0..bytes.len() {
                prop_assert!(matches!(request(&bytes[..end]), Ok(Parse::Partial)), "a prefix of what may become valid");
            },
            // Checks every cut by itself.
            Ok(Parse::Done(head)) => { request_any_cut(&bytes[..head.head_bytes]).map(|_| ()).expect("accepted"); }
            Err(_) => { request_any_cut(&bytes).map(|_| ()).expect_err("refused"); }
        }
    }

    #[test]
    fn cuts_do_not_change_how_a_response_head_is_read(bytes in soup(), head_method in any::<bool>()) {
        let method = if head_method { Method::Head } else { Method::Get };
        let mut head = ResponseHead::new();
        if let Ok(Parse::Done(())) = head.parse(&bytes, &HeadLimits::default(), method) {
            response(&bytes[..head.head_bytes], method).map(|_| ()).expect("accepted");
        }
    }

    #[test]
    fn a_valid_head_is_read_and_forwarded_as_written(
        fields in vec(field(), 0..20),
        path in "/[a-zA-Z0-9._~!$&'()*+,;=:@/-]{0,40}",
        body in prop_oneof![
            Just(BodyHeader::None),
            (0..=i64::MAX as u64).prop_map(BodyHeader::Length),
            Just(BodyHeader::Chunked),
        ],
    ) {
        let mut bytes = format!("POST {path} HTTP/1.1\r\nHost: example.com:8080\r\n").into_bytes();
        for (name, value) in &fields {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b":");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        let head = request_any_cut(&bytes).expect("valid");
        let found: Vec<_> = head.fields[1..].iter().map(|field| (field.name.of(&bytes), field.value.of(&bytes))).collect();
        let sent: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), &value[..])).collect();
        prop_assert_eq!(&found, &sent);
        let edits = RequestEdits { path_and_query: path.as_bytes(), host: b"h", body, ..RequestEdits::default() };
        let mut out = Vec::new();
        encode_request(&head, &bytes, &edits, &mut out);
        let again = request_any_cut(&out).expect("what is written is valid");
        prop_assert_eq!(again.head_bytes, out.len());
        prop_assert_eq!(again.target.path.of(&out), path.as_bytes());
        let framing = match body {
            BodyHeader::None => BodyFraming::None,
            BodyHeader::Length(length) => BodyFraming::Length(length),
            BodyHeader::Chunked => BodyFraming::Chunked,
        };
        prop_assert_eq!(again.body, framing);
        let end = again.fields.len() - usize::from(body != BodyHeader::None);
        let forwarded: Vec<_> = again.fields[1..end].iter().map(|field| (field.name.of(&out), field.value.of(&out))).collect();
        prop_assert_eq!(forwarded, sent);
    }

    #[test]
    fn another_parser_reads_one_and_the_same_request(bytes in soup()) {
        let Ok(Parse::Done(head)) = request(&bytes) else { return Ok(()) };
        let edits = RequestEdits {
            path_and_query: head.target.path_and_query_bytes(&bytes),
            host: head.host.map_or(&[][..], |host| host.whole.of(&bytes)),
            body: match head.body {
                BodyFraming::Length(length) => BodyHeader::Length(length),
                BodyFraming::Chunked => BodyHeader::Chunked,
                BodyFraming::None | BodyFraming::UntilClose => BodyHeader::None,
            },
            close: !head.keep_alive,
            ..RequestEdits::default()
        };
        let mut out = Vec::new();
        encode_request(&head, &bytes, &edits, &mut out);
        let mut slots = [httparse::EMPTY_HEADER; 200];
        let mut other = httparse::Request::new(&mut slots);
        prop_assert_eq!(other.parse(&out), Ok(httparse::Status::Complete(out.len())));
        let count = |name: &str| other.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).count();
        prop_assert_eq!(count("host"), 1);
        prop_assert!(count("content-length") + count("transfer-encoding") <= 1);
        prop_assert_eq!(other.version, Some(1));
        prop_assert_eq!(other.method.map(str::as_bytes), Some(head.method_span.of(&bytes)));
    }

    #[test]
    fn any_chunking_and_any_cut_relays_the_same_payload(
        chunks in vec((vec(any::<u8>(), 1..40), "(;[a-z]{1,4}(=([a-z]{1,3}|\"[ -!#-\\[]{0,5}\"))?){0,2}"), 0..8),
        cuts in vec(1..60_usize, 1..30),
        tailroom in 0..10_usize,
    ) {
        let mut bytes = Vec::new();
        let mut payload = Vec::new();
        for (data, extension) in &chunks {
            bytes.extend_from_slice(format!("{:x}{extension}\r\n", data.len()).as_bytes());
            bytes.extend_from_slice(data);
            bytes.extend_from_slice(b"\r\n");
            payload.extend_from_slice(data);
        }
        bytes.extend_from_slice(b"0\r\nX-T: v\r\n\r\nGET");
        let mut pieces = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        let mut relay = Relay::new(BodyFraming::Chunked, SinkFraming::Chunked, with_trailers());
        let (sent, follows) = relay_pieces(&mut relay, &pieces, tailroom).expect("valid");
        prop_assert_eq!(follows, b"GET");
        prop_assert_eq!(dechunk(&sent), (payload, b"X-T: v\r\n".to_vec()));
    }

    #[test]
    fn the_decoder_agrees_with_the_grammar(bytes in chunk_soup()) {
        let mut decoder = ChunkDecoder::new(ChunkLimits::default());
        let mut payload = Vec::new();
        let mut at = 0;
        let ended = loop {
            match decoder.next(&bytes, &mut at) {
                Ok(ChunkEvent::Data(data)) => payload.extend_from_slice(&bytes[data]),
                Ok(ChunkEvent::Partial) | Err(_) => break None,
                Ok(ChunkEvent::End) => break Some((payload, at)),
            }
        };
        prop_assert_eq!(ended, by_the_grammar(&bytes));
    }
}

fn chunk_soup() -> impl Strategy<Value = Vec<u8>> {
    let texts: Vec<&'static str> = vec![
        "0\r\n\r\n",
        "5\r\nhello\r\n",
        "1\r\na\r\n",
        "\r\n",
        "\r",
        "\n",
        "5",
        "0",
        "a",
        "A",
        ";",
        ";a",
        ";a=b",
        ";a=\"b c\"",
        " ",
        "\t",
        "=",
        "\"",
        "\\",
        "0\r\nX: y\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "hello",
        "X: y\r\n",
        "0x",
    ];
    vec(proptest::sample::select(texts), 0..10).prop_map(|pieces| pieces.concat().into_bytes())
}

/// A plain reading of RFC 9112 section 7.1 over whole lines: the payload and where the body ends, when it is valid and complete.
fn by_the_grammar(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let line = |at: usize| {
        let end = at + bytes.get(at..)?.windows(2).position(|pair| pair == b"\r\n")?;
        Some((text(bytes.get(at..end)?)?, end + 2))
    };
    let mut payload = Vec::new();
    let mut at = 0;
    loop {
        let (size_line, data) = line(at)?;
        let digits = size_line.find(|letter: char| !letter.is_ascii_hexdigit()).unwrap_or(size_line.len());
        let size = usize::from_str_radix(&size_line[..digits], 16).ok().filter(|_| digits <= 16)?;
        extensions(&size_line[digits..])?;
        at = data;
        if size == 0 {
            break;
        }
        payload.extend_from_slice(bytes.get(at..at.checked_add(size)?)?);
        at += size;
        (bytes.get(at..at + 2)? == b"\r\n").then_some(())?;
        at += 2;
    }
    loop {
        let (trailer, next) = line(at)?;
        at = next;
        if trailer.is_empty() {
            return Some((payload, at));
        }
        let (name, value) = trailer.split_once(':')?;
        is_token(name.as_bytes()).then_some(())?;
        value.chars().all(|letter| letter == '\t' || !letter.is_control()).then_some(())?;
    }
}

/// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`, by recursive descent.
fn extensions(text: &str) -> Option<()> {
    let skip = |text: &'_ str| text.trim_start_matches([' ', '\t']).len();
    let tail = |text: &str, length: usize| text[text.len() - length..].to_owned();
    let token = |text: &str| text.bytes().take_while(|byte| is_token(&[*byte])).count();
    let mut rest = text.to_owned();
    while !rest.is_empty() {
        rest = tail(&rest, skip(&rest)).strip_prefix(';')?.to_owned();
        rest = tail(&rest, skip(&rest));
        let name = token(&rest);
        (name > 0).then_some(())?;
        rest = rest[name..].to_owned();
        let Some(value) = tail(&rest, skip(&rest)).strip_prefix('=').map(str::to_owned) else {
            continue;
        };
        rest = tail(&value, skip(&value));
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut letters = quoted.char_indices();
            let end = loop {
                match letters.next()? {
                    (at, '"') => break at,
                    (_, '\\') => {
                        letters.next().filter(|(_, letter)| *letter == '\t' || !letter.is_control())?;
                    }
                    (_, letter) if letter != '\t' && letter.is_control() => return None,
                    _ => {}
                }
            };
            rest = quoted[end + 1..].to_owned();
        } else {
            let length = token(&rest);
            (length > 0).then_some(())?;
            rest = rest[length..].to_owned();
        }
    }
    Some(())
}
