//! Machines, what they have proven, and what they cost.

use super::convert;
use crate::shared::Shared;
use matrixai_proto::v1::{
    ExplainOfferReply, ExplainOfferRequest, ExplainOrderReply, ExplainOrderRequest, ListMachinesReply,
    ListMachinesRequest, ListOffersReply, ListOffersRequest, ListOrdersReply, ListOrdersRequest, ListTradesReply,
    ListTradesRequest, SearchOffersReply, SearchOffersRequest, SuggestPriceReply, SuggestPriceRequest,
    market_server::Market,
};
use matrixai_state::{
    State,
    ids::{MachineId, OfferId, OrderId},
    market::{
        listing::{PAGE_MAX, Ranking, Search},
        query::Query,
    },
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Rows of a page unless the request says otherwise.
const PAGE_DEFAULT: usize = 10;

/// The service.
#[derive(Debug)]
pub(crate) struct MarketService {
    pub(crate) shared: Shared,
}

#[tonic::async_trait]
impl Market for MarketService {
    async fn search_offers(
        &self,
        request: Request<SearchOffersRequest>,
    ) -> Result<Response<SearchOffersReply>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let request = request.into_inner();
        let (search, pages) = (search(&request)?, (request.page, request.per_page));
        // A hundred thousand offers and a long query take a while.
        aside(state, move |state| page(state, &search, pages)).await.map(Response::new)
    }

    async fn suggest_price(
        &self,
        request: Request<SuggestPriceRequest>,
    ) -> Result<Response<SuggestPriceReply>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let machine = MachineId(convert::id("machine", &request.into_inner().machine)?);
        if state.machine(machine).is_none() {
            return Err(convert::unknown("machine", &machine));
        }
        let suggestion = aside(state, move |state| state.suggest(machine)).await?.ok_or_else(|| {
            Status::failed_precondition(format!(
                "machine {machine} has no speed yet: what it can ask follows from it, so wait until it has drilled"
            ))
        })?;
        Ok(Response::new(convert::suggestion(&suggestion)))
    }

    async fn list_machines(
        &self,
        request: Request<ListMachinesRequest>,
    ) -> Result<Response<ListMachinesReply>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let owner = convert::optional_id("owner", &request.into_inner().owner)?;
        Ok(Response::new(ListMachinesReply { machines: convert::machines(&state, owner) }))
    }

    async fn list_offers(&self, request: Request<ListOffersRequest>) -> Result<Response<ListOffersReply>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        Ok(Response::new(ListOffersReply { offers: convert::offers(&state, request.into_inner().all) }))
    }

    async fn list_trades(&self, request: Request<ListTradesRequest>) -> Result<Response<ListTradesReply>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let limit = convert::limit(request.into_inner().limit, convert::LIST_DEFAULT);
        Ok(Response::new(ListTradesReply { trades: convert::trades(&state, limit) }))
    }

    async fn list_orders(&self, request: Request<ListOrdersRequest>) -> Result<Response<ListOrdersReply>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let request = request.into_inner();
        let account = convert::optional_id("account", &request.account)?;
        Ok(Response::new(convert::orders(&state, account, request.all)))
    }

    async fn explain_order(
        &self,
        request: Request<ExplainOrderRequest>,
    ) -> Result<Response<ExplainOrderReply>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let order = OrderId(convert::id("order", &request.into_inner().order)?);
        let found = state.explain(order).ok_or_else(|| convert::unknown("waiting order", &order))?;
        Ok(Response::new(convert::explanation(found)))
    }

    async fn explain_offer(
        &self,
        request: Request<ExplainOfferRequest>,
    ) -> Result<Response<ExplainOfferReply>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let offer = OfferId(convert::id("offer", &request.into_inner().offer)?);
        // Ten thousand orders, and the machines of the network.
        let found = aside(state, move |state| state.outlook(offer)).await?;
        Ok(Response::new(convert::outlook(found.ok_or_else(|| convert::unknown("open offer", &offer))?)))
    }
}

/// Does what takes long on a thread where nothing else waits for it.
async fn aside<T: Send + 'static>(
    state: Arc<State>,
    work: impl FnOnce(&State) -> T + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(move || work(&state)).await;
    done.map_err(|error| Status::internal(format!("the search did not end: {error}")))
}

fn search(request: &SearchOffersRequest) -> Result<Search, Status> {
    let query = Query::parse(&request.query).map_err(|error| Status::invalid_argument(format!("query: {error}")))?;
    let ranking = match request.sort.as_str() {
        "" => Ranking::default(),
        name => Ranking::named(name).ok_or_else(|| {
            let all: Vec<&str> = Ranking::ALL.iter().map(|(name, _)| *name).collect();
            Status::invalid_argument(format!("sort: {name:?} is none of {}", all.join(", ")))
        })?,
    };
    let gpus = usize::try_from(request.gpus).unwrap_or(usize::MAX);
    Ok(Search { query, gpus, model: request.model.clone(), region: request.region.clone(), ranking })
}

fn page(state: &State, search: &Search, (page, per_page): (u32, u32)) -> SearchOffersReply {
    let found = state.search(search);
    let rows = convert::limit(per_page, PAGE_DEFAULT).min(PAGE_MAX);
    let skipped = usize::try_from(page.saturating_sub(1)).unwrap_or(usize::MAX).saturating_mul(rows);
    let listings = found.iter().skip(skipped).take(rows).map(|listed| convert::listing(state, listed)).collect();
    SearchOffersReply { listings, total: u32::try_from(found.len()).unwrap_or(u32::MAX) }
}
