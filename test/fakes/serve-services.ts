import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type t from 'tap'
import { openRpcServer, type BoundService } from '../../src/rpc/server.ts'

/** Real gRPC on a real Unix socket, with the handlers of a test. */
export async function serveServices (test: Pick<typeof t, 'teardown'>, services: readonly BoundService[]): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'assay-cli-'))
  const server = openRpcServer({ services, log: silentLogger, clock: systemClock })
  const { path } = await server.listenUnix({ path: join(folder, 'api.sock') })
  test.teardown(async () => {
    await server[Symbol.asyncDispose]()
    await rm(folder, { recursive: true, force: true })
  })
  return path
}
