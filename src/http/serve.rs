//! Listening, on an address or on a socket in the file system.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use axum::Router;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::settings::Listen;

/// A listener that is bound already: from here on nothing about the address can fail.
#[derive(Debug)]
pub enum Bound {
    /// On an address.
    Tcp(TcpListener),
    /// On a socket, with its path.
    Unix(UnixListener, PathBuf),
}

impl Bound {
    /// Binds.
    pub async fn to(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            Listen::Unix(path) => {
                // A socket left behind by a process that was killed would refuse us for ever.
                if is_socket(path) && tokio::net::UnixStream::connect(path).await.is_err() {
                    tokio::fs::remove_file(path).await?;
                }
                Ok(Self::Unix(UnixListener::bind(path)?, path.clone()))
            }
        }
    }

    /// Where it listens, for people.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(
                |_| "an unknown address".into(),
                |address| format!("http://{address}"),
            ),
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// Serves until told to stop; requests under way are answered.
    pub async fn serve(self, router: Router, shutdown: CancellationToken) -> io::Result<()> {
        let stop = shutdown.cancelled_owned();
        match self {
            Self::Tcp(listener) => {
                axum::serve(
                    listener,
                    router.into_make_service_with_connect_info::<std::net::SocketAddr>(),
                )
                .with_graceful_shutdown(stop)
                .await
            }
            Self::Unix(listener, path) => {
                let served = axum::serve(listener, router).with_graceful_shutdown(stop).await;
                tokio::fs::remove_file(path).await.ok();
                served
            }
        }
    }
}

/// Only a socket may be cleared away: a mistyped path must not cost anybody a file.
fn is_socket(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marketd.sock");
        let listen = Listen::Unix(path.clone());
        drop(UnixListener::bind(&path).unwrap());
        let bound = Bound::to(&listen).await.unwrap();
        assert!(Bound::to(&listen).await.is_err(), "a socket that answers is somebody's");
        drop(bound);

        tokio::fs::remove_file(&path).await.unwrap();
        tokio::fs::write(&path, "books").await.unwrap();
        assert!(Bound::to(&listen).await.is_err());
        assert_eq!(tokio::fs::read_to_string(&path).await.unwrap(), "books");
    }
}
