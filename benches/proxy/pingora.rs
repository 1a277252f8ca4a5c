//! Bare Pingora: its own proxy, one thread, nothing added.

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

/// The first argument that makes this program that proxy.
pub(crate) const MODE: &str = "pingora-proxy";

struct Bare(SocketAddr);

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

pub(crate) fn serve(listen: &str, backend: &str) -> ! {
    let backend = backend.parse().expect("the bench passes an address");
    let mut server = Server::new_with_opt_and_conf(
        None,
        ServerConf {
            threads: 1,
            ..ServerConf::default()
        },
    );
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare(backend));
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever()
}
