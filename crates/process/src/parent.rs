//! The other end of [`crate::Process`]: a program that another one started ends with it, however that ends.

use tokio::io::AsyncReadExt;

/// Waits for the end of standard input, which the program that started this one holds open.
pub async fn parent_gone() {
    let (mut input, mut byte) = (tokio::io::stdin(), [0]);
    while matches!(input.read(&mut byte).await, Ok(1)) {}
}
