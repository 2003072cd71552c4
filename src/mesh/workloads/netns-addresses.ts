import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { AddressesAnswer, AddressesRequest } from './netns-thread.ts'

/** Reads the addresses inside network namespaces. Needs CAP_SYS_ADMIN. */
export interface NetnsAddresses extends AsyncDisposable {
  /** @param path of a namespace. @returns IP addresses without loopback and link-local ones. @throws {SpiffeError} `netns_unusable` */
  read (path: string): Promise<readonly string[]>
}

export function openNetnsAddresses (): NetnsAddresses {
  // Built, it is JavaScript beside this file.
  const thread = new Worker(new URL(`./netns-thread${extname(import.meta.url)}`, import.meta.url))
  thread.unref()
  const waiting = new Map<number, PromiseWithResolvers<readonly string[]>>()
  let last = 0
  thread.on('message', (answer: AddressesAnswer) => {
    const asked = waiting.get(answer.id)
    waiting.delete(answer.id)
    if ('addresses' in answer) asked?.resolve(answer.addresses)
    else asked?.reject(new SpiffeError('netns_unusable', `the network namespace cannot be entered: ${answer.failure}`))
  })
  const fail = (error: Error) => {
    const lost = new SpiffeError('netns_unusable', 'the thread that enters network namespaces ended', { cause: error })
    for (const { reject } of waiting.values()) reject(lost)
    waiting.clear()
  }
  thread.on('error', fail)
  thread.on('exit', code => fail(new Error(`exit code ${code}`)))
  return {
    read (path) {
      const asked = Promise.withResolvers<readonly string[]>()
      waiting.set(++last, asked)
      // eslint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
      thread.postMessage({ id: last, path } satisfies AddressesRequest)
      return asked.promise
    },
    async [Symbol.asyncDispose] () { await thread.terminate() }
  }
}
