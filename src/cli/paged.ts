import { openProgress } from './progress.ts'
import type { Terminal } from './terminal.ts'

export const pageSize = 1_000

/** Follows page tokens to the end. */
export async function allPages<T> (
  terminal: Terminal, what: string, fetchPage: (pageToken: string) => Promise<{ items: readonly T[], nextPageToken: string }>
): Promise<T[]> {
  using progress = openProgress(terminal, undefined, what)
  const all: T[] = []
  for (let pageToken = ''; ;) {
    const { items, nextPageToken } = await fetchPage(pageToken)
    for (const item of items) all.push(item)
    if (nextPageToken === '') return all
    progress.show(all.length)
    pageToken = nextPageToken
  }
}
