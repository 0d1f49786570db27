//! The twin on glommio: a task per connection, its own streams, its own executor.

use crate::on_glommio;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use std::io;

/// Serves until the process ends. `ready` is told the port.
pub(crate) fn serve(
    core: usize,
    buffer_bytes: usize,
    ready: impl FnOnce(u16) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    on_glommio::run(core, move || async move {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        ready(listener.local_addr()?.port())?;
        loop {
            let stream = listener.accept().await?;
            stream.set_nodelay(true)?;
            glommio::spawn_local(echo(stream, buffer_bytes)).detach();
        }
    })
}

async fn echo(mut stream: TcpStream, buffer_bytes: usize) {
    let mut buffer = vec![0; buffer_bytes];
    // A peer that resets is a peer that left.
    while let Ok(received @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..received]).await.is_err() {
            return;
        }
    }
}
