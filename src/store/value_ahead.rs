//! [`Pieces`]: what is being read of a value: the piece that is wanted, and those after it.
//!
//! A reader that asks for one piece after the other leaves the disk idle while it looks at each, and
//! then waits a whole answer of the disk. So once it goes on from one piece to the next, those after
//! that one are asked for, too, while there is memory for them and the disk serves so many at once.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::pending::Pending;
use crate::error::Result;

/// A piece of a value, from a byte to before another.
struct Piece {
    at: u64,
    end: u64,
    state: State,
}

enum State {
    UnderWay(Pending<Result<Bytes>>),
    Here(Bytes),
}

impl Piece {
    fn bytes(&self) -> u64 {
        self.end - self.at
    }
}

/// What was asked for of a value: pieces that follow each other.
#[derive(Default)]
pub(super) struct Pieces {
    pieces: VecDeque<Piece>,
}

impl Pieces {
    /// Gives up all that does not go on from a byte; says whether nothing is left.
    pub(super) fn go_to(&mut self, at: u64) -> bool {
        let holds = |piece: &Piece| (piece.at..piece.end).contains(&at);
        match self.pieces.iter().position(holds) {
            Some(first) => drop(self.pieces.drain(..first)),
            None => self.pieces.clear(),
        }
        self.pieces.is_empty()
    }

    /// Where the last one ends.
    pub(super) fn end(&self) -> Option<u64> {
        self.pieces.back().map(|piece| piece.end)
    }

    /// How many bytes were asked for that are not wanted yet.
    pub(super) fn bytes_ahead(&self) -> u64 {
        self.pieces.iter().skip(1).map(Piece::bytes).sum()
    }

    pub(super) fn under_way(&self) -> usize {
        let under_way = |piece: &&Piece| matches!(piece.state, State::UnderWay(_));
        self.pieces.iter().filter(under_way).count()
    }

    /// Asks for another one, behind all others.
    pub(super) fn push(
        &mut self,
        at: u64,
        end: u64,
        loading: impl Future<Output = Result<Bytes>> + Send + 'static,
    ) {
        let state = State::UnderWay(Pending::new(loading));
        self.pieces.push_back(Piece { at, end, state });
    }

    /// Waits for the first one; gives where it begins, too.
    pub(super) fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<Result<(u64, Bytes)>> {
        for index in 0..self.pieces.len() {
            let Some(piece) = self.pieces.get_mut(index) else {
                break;
            };
            let State::UnderWay(loading) = &mut piece.state else {
                continue;
            };
            match Pin::new(loading).poll(context) {
                Poll::Pending => {}
                Poll::Ready(Ok(bytes)) => piece.state = State::Here(bytes),
                Poll::Ready(Err(error)) => {
                    // Whoever comes there asks again, and is told then.
                    self.pieces.truncate(index);
                    if index == 0 {
                        return Poll::Ready(Err(error));
                    }
                    break;
                }
            }
        }
        match self
            .pieces
            .pop_front_if(|first| matches!(first.state, State::Here(_)))
        {
            Some(Piece {
                at,
                state: State::Here(bytes),
                ..
            }) => Poll::Ready(Ok((at, bytes))),
            _ => Poll::Pending,
        }
    }
}
