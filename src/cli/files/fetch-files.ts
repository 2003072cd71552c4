import type { FetchReport } from '../../files/fetch-once.ts'
import type { FilesConfig } from '../../files/files-config.ts'
import { systemClock } from '../../runtime/clock.ts'
import { withAgentAt } from '../channel-call.ts'

/** @throws {SpiffeError} `server_unreachable`, and as `fetchOnce` */
export async function fetchFiles (
  config: FilesConfig & { readonly socketPath: string }, timeoutMs: number, signal: AbortSignal
): Promise<FetchReport> {
  const { fetchOnce } = await import('../../files/fetch-once.ts')
  return await withAgentAt(config.socketPath, channel =>
    fetchOnce(config, { channel, clock: systemClock, random: Math.random, timeoutMs }, signal))
}
