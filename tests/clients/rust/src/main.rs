//! The client of tungstenite, which knows no compression.
//!
//! Usage: tungstenite-client ADDRESS

use std::io::{ErrorKind, stdin};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use tungstenite::http::Uri;
use tungstenite::{Error, Message, WebSocket, client};

/// How long a read may wait. One thread has the socket: it reads, which also answers pings, and sends.
const TURN: Duration = Duration::from_millis(5);

fn main() {
    let address = std::env::args().nth(1).expect("ADDRESS");
    let uri: Uri = address.parse().unwrap();
    let stream = TcpStream::connect((uri.host().unwrap(), uri.port_u16().unwrap())).unwrap();
    let (mut socket, _) = client(address, stream).unwrap();
    socket.get_ref().set_read_timeout(Some(TURN)).unwrap();
    println!("open");
    let (give, lines) = channel();
    let input = thread::spawn(move || {
        for line in stdin().lines() {
            give.send(line.unwrap()).unwrap();
        }
    });
    talk(&mut socket, &lines);
    input.join().unwrap();
}

/// Sends what it is given and prints what comes, until the connection is closed.
fn talk(socket: &mut WebSocket<TcpStream>, lines: &Receiver<String>) {
    loop {
        match lines.try_recv() {
            Ok(line) => socket.send(Message::text(line)).unwrap(),
            Err(TryRecvError::Empty) => {}
            // An error says that it is closed already.
            Err(TryRecvError::Disconnected) => _ = socket.close(None),
        }
        match socket.read() {
            Ok(Message::Text(text)) => println!("message {text}"),
            Ok(Message::Close(Some(close))) => {
                println!("close {} {}", u16::from(close.code), close.reason);
            }
            Ok(_) => {}
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
            Err(Error::ConnectionClosed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}
