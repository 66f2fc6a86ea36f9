//! Transactions beside each other: a bank whose two tellers move money, with many accounts, so that they
//! are hardly ever in each other's way, and with few, so that they are all the time.
//!
//! Each transaction reads two accounts and writes both, is handed to the operating system, and is tried
//! until it is committed. An account has its balance and how many transfers it was part of: so in the end
//! the money is what it was, and the transfers are twice those that were committed, or some got lost.

use super::session::{Session, check};
use crate::data::{KEY_BYTES, Random, VALUE_BYTES, key};
use crate::engines::{Both, Engine, Result, Safety};

pub const PHASES: [&str; 2] = ["transactions-few-conflicts", "transactions-many-conflicts"];

const TELLERS: u64 = 2;
const MANY: u64 = 100_000;
const FEW: u64 = 16;
const BALANCE: u64 = 1000;

pub fn run(session: &mut Session) -> Result<()> {
    session.settings.beside = true;
    if !session.store()?.transacts() {
        for phase in PHASES {
            session.absent(phase, "transactions that write are one at a time");
        }
        return session.close();
    }
    let many = MANY.min(session.amounts.elements);
    let transfers = (session.amounts.elements / 5).clamp(1000, 200_000);
    for (phase, begin, accounts) in [(PHASES[0], 0, many), (PHASES[1], MANY, FEW)] {
        if session.wants(phase) {
            bank(session, phase, begin, accounts, transfers)?;
        }
    }
    session.close()
}

/// What is known of an account.
#[derive(Clone, Copy, Default)]
struct Account {
    balance: u64,
    transfers: u64,
}

impl Account {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (words, _) = bytes.get(..16)?.as_chunks();
        Some(Self {
            balance: u64::from_le_bytes(words[0]),
            transfers: u64::from_le_bytes(words[1]),
        })
    }

    fn bytes(self) -> [u8; VALUE_BYTES] {
        let mut bytes = [0xa5; VALUE_BYTES];
        bytes[..8].copy_from_slice(&self.balance.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.transfers.to_le_bytes());
        bytes
    }
}

fn bank(
    session: &mut Session,
    phase: &str,
    begin: u64,
    accounts: u64,
    transfers: u64,
) -> Result<()> {
    let full = Account {
        balance: BALANCE,
        transfers: 0,
    };
    session.store()?.write(Safety::Durable, &mut |writer| {
        (begin..begin + accounts).try_for_each(|account| writer.put(&key(account), &full.bytes()))
    })?;
    let seeds: Vec<u64> = (0..TELLERS).map(|_| session.random.next()).collect();
    session.measure(phase, transfers * TELLERS, true, |session, metrics| {
        let store = session.store()?;
        let refused = std::thread::scope(|scope| {
            let tellers: Vec<_> = seeds
                .iter()
                .map(|seed| scope.spawn(|| teller(store, *seed, begin, accounts, transfers)))
                .collect();
            let refused = tellers.into_iter().map(|teller| {
                let ended = teller.join();
                ended.unwrap_or_else(|_| Err("a teller panicked".into()))
            });
            refused.sum::<Result<u64>>()
        })?;
        metrics.insert("refused".to_owned(), refused as f64);
        Ok(())
    })?;
    audit(session.store()?, begin, accounts, transfers * TELLERS)
}

/// Moves money so many times; gives how many transactions were refused.
fn teller(store: &dyn Engine, seed: u64, begin: u64, accounts: u64, transfers: u64) -> Result<u64> {
    let mut random = Random::new(seed);
    let mut refused = 0;
    for _ in 0..transfers {
        let from = random.below(accounts);
        let to = (from + 1 + random.below(accounts - 1)) % accounts;
        let amount = 1 + random.below(9);
        let keys = [from, to].map(|account| key(begin + account));
        refused += store.transact(Safety::Buffered, &mut |transaction| {
            move_money(transaction, &keys, amount)
        })?;
    }
    Ok(refused)
}

fn move_money(transaction: &mut dyn Both, keys: &[[u8; KEY_BYTES]; 2], amount: u64) -> Result<()> {
    let mut both = [Account::default(); 2];
    for (account, key) in both.iter_mut().zip(keys) {
        let mut found = None;
        transaction.get(key, &mut |bytes| found = Account::read(bytes))?;
        *account = found.ok_or("wrong data: an account is gone")?;
    }
    let amount = amount.min(both[0].balance);
    both[0].balance -= amount;
    both[1].balance += amount;
    for (account, key) in both.iter_mut().zip(keys) {
        account.transfers += 1;
        transaction.put(key, &account.bytes())?;
    }
    Ok(())
}

/// That all the money is there, and every transfer.
fn audit(store: &dyn Engine, begin: u64, accounts: u64, committed: u64) -> Result<()> {
    let mut sum = Account::default();
    store.read(&mut |reader| {
        for account in begin..begin + accounts {
            let mut found = None;
            reader.get(&key(account), &mut |bytes| found = Account::read(bytes))?;
            let account = found.ok_or("wrong data: an account is gone")?;
            sum.balance += account.balance;
            sum.transfers += account.transfers;
        }
        Ok(())
    })?;
    check(sum.balance == accounts * BALANCE, || {
        format!("{} in {accounts} accounts", sum.balance)
    })?;
    check(sum.transfers == 2 * committed, || {
        format!("{committed} transfers, half of {} seen", sum.transfers)
    })
}
