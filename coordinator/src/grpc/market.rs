//! Machines, what they have proven, and what they cost.

use super::convert;
use crate::shared::Shared;
use matrixai_proto::v1::{
    ExplainOrderReply, ExplainOrderRequest, ListMachinesReply, ListMachinesRequest, ListOffersReply, ListOffersRequest,
    ListOrdersReply, ListOrdersRequest, ListTradesReply, ListTradesRequest, market_server::Market,
};
use matrixai_state::{ids::OrderId, market::query::Query};
use std::collections::BTreeSet;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Debug)]
pub(crate) struct MarketService {
    pub(crate) shared: Shared,
}

#[tonic::async_trait]
impl Market for MarketService {
    async fn list_machines(
        &self,
        request: Request<ListMachinesRequest>,
    ) -> Result<Response<ListMachinesReply>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let request = request.into_inner();
        let owner = convert::optional_id("owner", &request.owner)?;
        let mut machines = convert::machines(&state, owner);
        if !request.query.is_empty() {
            let query = Query::parse(&request.query).map_err(|error| Status::invalid_argument(error.to_string()))?;
            let found: BTreeSet<Vec<u8>> = state.machines_that(&query).into_iter().map(|id| id.0.to_vec()).collect();
            machines.retain(|machine| found.contains(&machine.id));
        }
        Ok(Response::new(ListMachinesReply { machines }))
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
}
