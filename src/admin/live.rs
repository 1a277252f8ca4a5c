//! What a change in the store means to the process that serves meanwhile.

use async_trait::async_trait;

use crate::store::{Account, Id, Key, Owner};

/// Makes changes count at once. What is in the store is true for every process a moment later by itself; for this one it
/// must be true on the next request.
#[async_trait]
pub trait Live: Send + Sync + 'static {
    /// These are in the store as told. Two changes of one thing may come in either order: the greater `revision` counts.
    async fn changed(&self, accounts: &[Account], keys: &[Key]);

    /// Gives back to the store what is free of an owner's money, and asks other processes to, before money is taken away
    /// or a ceiling comes down. `account` is the owner, or the account of the key that is. Bounded: what is spent
    /// meanwhile, or held by a process that does not answer, is not free.
    async fn recall(&self, account: Id, owner: Owner);
}

/// Nobody serves: there is only the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct NobodyServes;

#[async_trait]
impl Live for NobodyServes {
    async fn changed(&self, _: &[Account], _: &[Key]) {}

    async fn recall(&self, _: Id, _: Owner) {}
}
