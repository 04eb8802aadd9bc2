//! Proof of drilling: campaigns, units and why each was decided as it was.

use super::convert;
use crate::shared::Shared;
use matrixai_proto::v1::{GetDrillingReply, GetDrillingRequest, GetUnitRequest, Unit, drilling_server::Drilling};
use matrixai_state::ids::UnitId;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Debug)]
pub(crate) struct DrillingService {
    pub(crate) shared: Shared,
}

#[tonic::async_trait]
impl Drilling for DrillingService {
    async fn get_drilling(&self, request: Request<GetDrillingRequest>) -> Result<Response<GetDrillingReply>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let units = convert::limit(request.into_inner().units, convert::UNITS_DEFAULT);
        Ok(Response::new(convert::drilling(&state, units)))
    }

    async fn get_unit(&self, request: Request<GetUnitRequest>) -> Result<Response<Unit>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let id = UnitId(convert::id("unit", &request.into_inner().unit)?);
        let row = state.unit(id).ok_or_else(|| convert::unknown("unit", &id))?;
        Ok(Response::new(convert::unit(row)))
    }
}
