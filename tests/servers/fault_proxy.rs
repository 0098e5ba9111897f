//! A proxy between the program and a server, which lets one request fail. It forwards whole requests,
//! each on a connection of its own, so that a request fails and not a connection of many.

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use super::http_request::HttpRequest;
use super::tcp_proxy::Listener;

/// How one request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 500 instead of executing it.
    Refused,
    /// 503 SlowDown instead of executing it.
    SlowDown,
    /// Executed, and the connection ends without a response.
    LostResponse,
    /// Executed, and the response is 500.
    LostAs500,
    /// The server gets half of it, and the connection ends.
    HalfRequest,
    /// Executed, and the connection ends in the middle of the response.
    HalfResponse,
    /// Executed twice; the client gets the first response.
    Twice,
}

impl Fault {
    pub const ALL: [Fault; 7] = [
        Fault::Refused,
        Fault::SlowDown,
        Fault::LostResponse,
        Fault::LostAs500,
        Fault::HalfRequest,
        Fault::HalfResponse,
        Fault::Twice,
    ];
}

struct Shared {
    /// Host and port.
    server: String,
    fault: Option<(usize, Fault)>,
    /// Method and target of each request, in the order of arrival.
    log: Mutex<Vec<String>>,
}

/// A running proxy.
pub struct FaultProxy {
    shared: Arc<Shared>,
    listener: Listener,
}

impl FaultProxy {
    /// To `http://HOST:PORT`. The request with this number, from 1, fails.
    pub fn to(url: &str, fault: Option<(usize, Fault)>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            server: url.trim_start_matches("http://").to_owned(),
            fault,
            log: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        // The client, and with it the test, notices a connection that fails.
        let listener = Listener::start(move |client| drop(serving.serve(client)))?;
        Ok(FaultProxy { shared, listener })
    }

    pub fn url(&self) -> String {
        self.listener.url()
    }

    /// Method and target of each request, in the order of arrival.
    pub fn log(&self) -> Vec<String> {
        self.shared.log.lock().unwrap().clone()
    }
}

impl Shared {
    /// Serves one request, whose response ends the connection.
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let request = HttpRequest::read(&mut client)?;
        let number = {
            let mut log = self.log.lock().unwrap();
            log.push(format!("{} {}", request.method, request.target));
            log.len()
        };
        let forward = || request.forward(&self.server);
        let fault = self.fault.filter(|(faulty, _)| *faulty == number);
        match fault.map(|(_, fault)| fault) {
            None => client.write_all(&forward()?),
            Some(Fault::Refused) => client.write_all(&refusal(&request, 500)),
            Some(Fault::SlowDown) => client.write_all(&refusal(&request, 503)),
            Some(Fault::LostResponse) => forward().map(drop),
            Some(Fault::LostAs500) => {
                forward()?;
                client.write_all(&refusal(&request, 500))
            }
            Some(Fault::HalfRequest) => {
                let bytes = request.to_bytes();
                let mut server = TcpStream::connect(&self.server)?;
                server.write_all(&bytes[..bytes.len() / 2])?;
                server.shutdown(Shutdown::Both)
            }
            Some(Fault::HalfResponse) => {
                let response = forward()?;
                client.write_all(&response[..response.len() / 2])
            }
            Some(Fault::Twice) => {
                let response = forward()?;
                forward()?;
                client.write_all(&response)
            }
        }
    }
}

fn refusal(request: &HttpRequest, status: u16) -> Vec<u8> {
    let (reason, code) = match status {
        503 => ("Service Unavailable", "SlowDown"),
        _ => ("Internal Server Error", "InternalError"),
    };
    let body = if request.method == "HEAD" {
        String::new()
    } else {
        format!("<Error><Code>{code}</Code><Message>injected</Message></Error>")
    };
    let size = body.len();
    let head = format!("HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Length: {size}");
    format!("{head}\r\n\r\n{body}").into_bytes()
}
