//! Calls that are under way when their slot is moved: the former owner goes on with them, and says to the new owner what
//! comes of them, over one exchange per slot. It ends with the last call, with a broken link, or at the drain's deadline.

mod finisher;
mod heir;

pub(crate) use finisher::Finishers;
pub(crate) use heir::Heir;
