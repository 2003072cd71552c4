import type { Clock } from '../runtime/clock.ts'
import { isStop } from '../runtime/tasks.ts'
import type { JwtSvidFile } from './files-config.ts'
import type { FollowDeps } from './follow-agent.ts'
import { readJwtSvid } from './jwt-material.ts'
import { metadata } from './workload-client.ts'

const answerTimeoutMs = 30_000
const firstPauseMs = 1_000
const longestPauseMs = 60_000
/** A clock that was set is noticed after so long. */
const lookEveryMs = 30_000

/** Keeps the token of one file until the signal aborts: a new one at half of its life. */
export async function followJwtSvid ({ audience, fileName }: JwtSvidFile, deps: FollowDeps, signal: AbortSignal): Promise<never> {
  const { client, config, state, clock, random, log } = deps
  let said: string | undefined
  for (let pauseMs = firstPauseMs; ;) {
    try {
      const response = await client.fetchJWTSVID({ audience, spiffeId: '' }, { signal, metadata, timeoutMs: answerTimeoutMs })
      const { token, expiresAt } = readJwtSvid(response, config.hint)
      state.set({ ...state.value, jwtSvids: new Map([...state.value.jwtSvids, [fileName, token]]), isRevoked: false })
      log.info({ file: fileName, audience, expiresAt }, 'the agent gave a JWT-SVID')
      pauseMs = firstPauseMs
      said = undefined
      await halfTheWay(expiresAt, () => state.value.jwtSvids.has(fileName), clock, signal)
    } catch (error) {
      if (isStop(error, signal) || signal.aborted) throw error
      const { code, status, message: reason } = error as Error & { code?: unknown, status?: unknown }
      // Whatever is neither is a bug.
      if (code === undefined && status === undefined) throw error
      const facts = { file: fileName, code, status, reason }
      if (reason !== said) log.warn(facts, 'the agent is asked again for a JWT-SVID; the file stays as it is')
      said = reason
      await clock.sleep(Math.round(pauseMs * (0.75 + random() / 2)), signal)
      pauseMs = Math.min(longestPauseMs, pauseMs * 2)
    }
  }
}

/**
 * Waits until half of what is left of the life is over, a second at the least; not as long once the token was taken away with the identity,
 * which may come back any time.
 */
async function halfTheWay (expiresAt: Date, isThere: () => boolean, clock: Clock, signal: AbortSignal): Promise<void> {
  const due = clock.now().getTime() + Math.max(firstPauseMs, (expiresAt.getTime() - clock.now().getTime()) / 2)
  for (let leftMs = due - clock.now().getTime(); leftMs > 0; leftMs = due - clock.now().getTime()) {
    await clock.sleep(Math.min(lookEveryMs, leftMs), signal)
    if (!isThere()) return
  }
}
