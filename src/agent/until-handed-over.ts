import type { Logger } from '../runtime/logger.ts'
import { isStop, runTasks, type Task } from '../runtime/tasks.ts'
import type { HandoverListener, HandoverRequest } from './handover.ts'

/** Why a task stops: this process goes, what it did is gone on with. */
export class HandingOver extends Error {
  constructor () {
    super('another process takes over')
    this.name = 'HandingOver'
  }
}

/**
 * Runs a task until the signal aborts or a successor has taken this process's place. The task stops while a successor gets ready, and
 * begins again when that one fails.
 * @returns the successor, if there is one now
 */
export async function untilHandedOver (
  task: Task, successors: HandoverListener | undefined, log: Logger, signal: AbortSignal
): Promise<HandoverRequest | undefined> {
  for (;;) {
    const request = await untilAsked(task, successors, signal)
    if (request === undefined || signal.aborted) return undefined
    log.info({ pid: request.pid }, 'another process asks for this agent\'s place')
    if (await request.grant()) {
      log.info({ pid: request.pid }, 'handed over; connections are sent there')
      return request
    }
    log.warn({ pid: request.pid }, 'the other process did not take over; going on')
  }
}

async function untilAsked (
  task: Task, successors: HandoverListener | undefined, signal: AbortSignal
): Promise<HandoverRequest | undefined> {
  let request: HandoverRequest | undefined
  const asked = new AbortController()
  await runTasks(signal, [
    async signal => {
      const stop = AbortSignal.any([signal, asked.signal])
      try {
        await task(stop)
      } catch (error) {
        if (!isStop(error, stop)) throw error
      }
    },
    async signal => {
      request = await successors?.next(signal)
      if (request !== undefined) asked.abort(new HandingOver())
    }
  ])
  return request
}
