import { resolve } from 'node:path'
import { SpiffeError } from '../spiffe/errors.ts'
import { parsePostgresAddress, type PostgresAddress } from './postgres/postgres-address.ts'

export type DatastoreTarget =
  | { readonly kind: 'sqlite', /** Absolute. */ readonly file: string }
  | { readonly kind: 'postgres', readonly address: PostgresAddress }

/**
 * Reads where the database is: `sqlite:///path/file.db`, a plain path, `postgres://…` or `postgresql://…`.
 * @throws {SpiffeError} `config_invalid`; the message never repeats what could hold a password
 */
export function parseDatastoreUrl (text: string): DatastoreTarget {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(text)?.[1]?.toLowerCase()
  if (scheme === 'postgres' || scheme === 'postgresql') {
    if (text.slice(scheme.length, scheme.length + 3) !== '://') throw refused('a PostgreSQL address begins postgres://')
    return { kind: 'postgres', address: parsePostgresAddress(text) }
  }
  if (text.includes('\0')) throw refused('a path holds no NUL')
  if (scheme === 'sqlite') {
    const path = text.slice('sqlite://'.length)
    if (!/^sqlite:\/\/\//i.test(text) || path === '/') throw refused('a SQLite address is sqlite:///absolute/path')
    return { kind: 'sqlite', file: resolve(path) }
  }
  if (scheme !== undefined && text.startsWith('//', scheme.length + 1)) throw refused(`${scheme}:// is no database known here`)
  if (text === '') throw refused('the database address is empty')
  return { kind: 'sqlite', file: resolve(text) }
}

function refused (rule: string): SpiffeError {
  return new SpiffeError('config_invalid', `${rule}; use sqlite:///path/file.db, a path, or postgres://user@host/database`)
}
