import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { isStop } from '../runtime/tasks.ts'
import type { JwtAuthority } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { KeySource } from './key-source.ts'
import type { OidcMetrics } from './oidc-metrics.ts'
import type { PublishedKeys } from './published-keys.ts'

export interface FollowKeysDeps {
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: Pick<OidcMetrics, 'sourceRead'>
}

const firstRetryMs = 500
const longestRetryMs = 10_000

/** Takes over what the source says until the signal aborts; a source that is away is asked again and again. */
export async function followKeys (
  source: KeySource, published: PublishedKeys, { clock, log, metrics }: FollowKeysDeps, signal: AbortSignal
): Promise<void> {
  for (let retryMs = firstRetryMs; ; retryMs = Math.min(longestRetryMs, retryMs * 2)) {
    let failure: unknown = new SpiffeError('server_unreachable', 'the source has ended')
    try {
      for await (const keys of source.follow(signal)) {
        take(source, published, keys, log)
        metrics.sourceRead('taken')
        retryMs = firstRetryMs
      }
    } catch (error) {
      if (isStop(error, signal)) throw error
      failure = error
    }
    signal.throwIfAborted()
    metrics.sourceRead('failed')
    const { code, status, message: reason } = failure as Error & { code?: unknown, status?: unknown }
    if (published.trouble !== reason) {
      const seconds = published.ageMs === undefined ? undefined : Math.round(published.ageMs / 1_000)
      // A call that nobody answered has a status and no code of ours.
      const facts = { source: source.name, code: code ?? (status === undefined ? undefined : 'server_unreachable'), reason }
      log.warn({ ...facts, confirmedSecondsAgo: seconds }, 'the source of the keys is away: the last good ones are served on')
    }
    published.sourceFailed(reason)
    await clock.sleep(retryMs, signal)
  }
}

function take (source: KeySource, published: PublishedKeys, keys: readonly JwtAuthority[], log: Logger): void {
  const wasAway = published.trouble !== undefined && published.ageMs !== undefined
  const { added, removed, skipped } = published.take(keys)
  if (wasAway) log.info({ source: source.name }, 'the source of the keys is back')
  if (added.length + removed.length > 0) log.info({ source: source.name, added, removed, keys: published.size }, 'published keys changed')
  if (skipped.length > 0) log.warn({ source: source.name, skipped }, 'keys cannot be published')
}
