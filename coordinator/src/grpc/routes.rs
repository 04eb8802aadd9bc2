//! Sends each request to the service that its path names. tonic's own router is axum, a web framework that nothing else
//! here would use; a gRPC path is `/package.Service/Method`, and a list of names is enough.

use std::{convert::Infallible, fmt, sync::Arc, task::Poll};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Context, Service, http},
    server::NamedService,
};

type Request = http::Request<Body>;
type Response = http::Response<Body>;

/// The services by name.
#[derive(Clone, Default)]
pub(super) struct Routes {
    services: Arc<Vec<(&'static str, Box<dyn Route>)>>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.services.iter().map(|(name, _)| name)).finish()
    }
}

/// A service behind a name.
trait Route: Send + Sync {
    fn serve(&self, request: Request) -> BoxFuture<Response, Infallible>;
}

impl<S> Route for S
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    fn serve(&self, request: Request) -> BoxFuture<Response, Infallible> {
        let mut service = self.clone();
        Box::pin(async move {
            std::future::poll_fn(|context| service.poll_ready(context)).await?;
            service.call(request).await
        })
    }
}

impl Routes {
    /// Adds a service under its name. Only while the routes are being put together, before the first clone.
    pub(super) fn add<S>(mut self, service: S) -> Self
    where
        S: Service<Request, Response = Response, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let services = Arc::get_mut(&mut self.services).expect("routes are put together before they are shared");
        services.push((S::NAME, Box::new(service)));
        self
    }

    fn find(&self, path: &str) -> Option<&dyn Route> {
        let (service, _) = path.strip_prefix('/')?.split_once('/')?;
        self.services.iter().find(|(name, _)| *name == service).map(|(_, route)| route.as_ref())
    }
}

impl Service<Request> for Routes {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.find(request.uri().path()) {
            Some(route) => route.serve(request),
            None => {
                let status = Status::unimplemented(format!("there is no service at {}", request.uri().path()));
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}
