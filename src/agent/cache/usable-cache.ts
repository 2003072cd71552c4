import type { Logger } from '../../runtime/logger.ts'
import type { Clock } from '../../runtime/clock.ts'
import { codeOf, SpiffeError } from '../../spiffe/errors.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { CacheFile } from './cache-file.ts'
import type { NodeCache } from './node-cache.ts'

export interface CacheTerms {
  readonly agentId: SpiffeId
  /** As the agent's state remembers it: an older cache was put back from a copy. */
  readonly generation: number
  readonly maxAgeMs: number
  readonly clock: Clock
}

/** What was kept, if it may be used; a cache that may not is left alone, with a warning: the servers know better anyway. */
export async function usableCache (file: CacheFile, terms: CacheTerms, log: Logger): Promise<NodeCache | undefined> {
  try {
    const cache = await file.read()
    if (cache === undefined) return undefined
    check(cache, terms)
    return cache
  } catch (error) {
    const code = codeOf(error)
    if (!(error instanceof SpiffeError) || code === undefined) throw error
    const { message, row: { next }, cause } = error
    log.warn({ cache: file.path, code, reason: message, next, err: cause }, 'the cache is not used; identities wait for a server')
    return undefined
  }
}

function check (cache: NodeCache, { agentId, generation, maxAgeMs, clock }: CacheTerms): void {
  if (cache.agentId !== agentId) throw new SpiffeError('cache_unusable', `it belongs to ${cache.agentId}, and this is ${agentId}`)
  if (cache.generation < generation) {
    throw new SpiffeError('cache_rolled_back', `it is of generation ${cache.generation}, and generation ${generation} was written since`)
  }
  const ageMs = clock.now().getTime() - cache.heardAt.getTime()
  if (ageMs >= maxAgeMs) throw new SpiffeError('cache_too_old', `no server was heard of since ${cache.heardAt.toISOString()}`)
}
