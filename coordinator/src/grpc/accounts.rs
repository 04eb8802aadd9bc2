//! Balances and statements.

use super::convert;
use crate::{history::HistoryError, shared::Shared};
use matrixai_proto::v1::{
    Account, GetAccountRequest, GetEconomyReply, GetEconomyRequest, GetStatementReply, GetStatementRequest,
    ListAccountsReply, ListAccountsRequest, ListHoldsReply, ListHoldsRequest, accounts_server::Accounts,
};
use matrixai_state::{
    Signer, State,
    ids::{AccountId, HoldId, Key},
};
use tonic::{Request, Response, Status};

/// The service.
#[derive(Debug)]
pub(crate) struct AccountsService {
    pub(crate) shared: Shared,
}

#[tonic::async_trait]
impl Accounts for AccountsService {
    async fn get_account(&self, request: Request<GetAccountRequest>) -> Result<Response<Account>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let id = account_id(&state, &request.into_inner().account)?;
        let row = state.account(id).ok_or_else(|| convert::unknown("account", &id))?;
        Ok(Response::new(convert::account(&state, row)))
    }

    async fn list_accounts(
        &self,
        request: Request<ListAccountsRequest>,
    ) -> Result<Response<ListAccountsReply>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let ListAccountsRequest { after, limit } = request.into_inner();
        let limit = convert::limit(limit, convert::LIST_DEFAULT);
        let accounts = match convert::optional_id("after", &after)? {
            None => state.accounts().take(limit).map(|row| convert::account(&state, row)).collect(),
            Some(after) => {
                state.accounts_after(AccountId(after)).take(limit).map(|row| convert::account(&state, row)).collect()
            }
        };
        Ok(Response::new(ListAccountsReply {
            accounts,
            minted: state.minted().to_string(),
            burned: state.burned().to_string(),
            index: state.index(),
            now_ms: state.now_ms(),
        }))
    }

    async fn get_statement(
        &self,
        request: Request<GetStatementRequest>,
    ) -> Result<Response<GetStatementReply>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let GetStatementRequest { account, before, limit } = request.into_inner();
        let id = account_id(&state, &account)?;
        if state.account(id).is_none() {
            return Err(convert::unknown("account", &id));
        }
        let limit = convert::limit(limit, convert::LIST_DEFAULT);
        let statement = self.shared.history().statement(id, before, limit, state.index()).await;
        let statement = statement.map_err(|error| match error {
            HistoryError::Open { .. } => Status::internal(error.to_string()),
            HistoryError::Stopped | HistoryError::Behind { .. } => Status::unavailable(error.to_string()),
        })?;
        let movements = statement.records.into_iter().map(convert::movement).collect();
        Ok(Response::new(GetStatementReply { movements, complete_from_index: statement.complete_from }))
    }

    async fn list_holds(&self, request: Request<ListHoldsRequest>) -> Result<Response<ListHoldsReply>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        let ListHoldsRequest { account, after, limit } = request.into_inner();
        let id = account_id(&state, &account)?;
        if state.account(id).is_none() {
            return Err(convert::unknown("account", &id));
        }
        let after = convert::optional_id("after", &after)?.map(HoldId);
        let limit = convert::limit(limit, convert::LIST_DEFAULT);
        let holds = state.holds_of(id, after).take(limit).map(convert::hold).collect();
        Ok(Response::new(ListHoldsReply { holds }))
    }

    async fn get_economy(&self, request: Request<GetEconomyRequest>) -> Result<Response<GetEconomyReply>, Status> {
        let state = self.shared.view_for(request.metadata()).await?;
        Ok(Response::new(convert::economy(&state, &request.into_inner().reference)))
    }
}

/// An account is named by its id, or by its current key.
fn account_id(state: &State, bytes: &[u8]) -> Result<AccountId, Status> {
    let Ok(key) = Key::try_from(bytes) else {
        return match bytes.try_into() {
            Ok(id) => Ok(AccountId(id)),
            Err(_) => Err(Status::invalid_argument("account must be an id of 20 bytes or a key of 32 bytes")),
        };
    };
    match state.key_role(&key) {
        Some(Signer::Account(id)) => Ok(id),
        Some(Signer::Machine(..) | Signer::Node(_)) | None => Err(Status::not_found("no account has this key")),
    }
}
