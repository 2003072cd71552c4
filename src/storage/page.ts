import { SpiffeError } from '../spiffe/errors.ts'

/** Part of a listing. `size` 0 means everything; otherwise the rows that follow `token`, in row order. */
export interface PageRequest {
  readonly size: number
  /** Empty for the first page; then what the page before gave. */
  readonly token: string
}

export const everything: PageRequest = { size: 0, token: '' }

/**
 * Reads a page token: the decimal row id of the last row that was returned (spire-surface §1.2).
 * @returns 0 for the empty token; ids beyond 2^53 count as 2^53 - 1, which no row reaches
 * @throws {SpiffeError} `page_token_malformed`
 */
export function parsePageToken (token: string): number {
  if (token === '') return 0
  if (!/^\d{1,20}$/.test(token) || BigInt(token) > maxToken) {
    throw new SpiffeError('page_token_malformed', `could not parse token ${JSON.stringify(token.slice(0, 40))}`)
  }
  return Math.min(Number(token), Number.MAX_SAFE_INTEGER)
}

const maxToken = 2n ** 64n - 1n
