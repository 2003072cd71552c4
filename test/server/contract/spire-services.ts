import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Channel } from '../../../src/rpc/channel.ts'
import { RpcError } from '../../../src/rpc/rpc-error.ts'
import type { AnyMethod, Methods, Service } from '../../../src/wire/service.ts'

const generated = join(import.meta.dirname, '../../../src/wire/generated')

/** Every service of SPIRE's API that is described under `protos/`: what is added there is found here; SPIRE's plugins have others. */
async function spireServices (): Promise<ReadonlyArray<Service<Methods>>> {
  const modules = await Promise.all((await readdir(generated)).map(file => import(join(generated, file)) as Promise<object>))
  const services = modules.flatMap(module => Object.values(module)).filter(isService)
  return services.filter(({ name }) => /^spire\.(?!plugin|hostservice|service)/.test(name)).toSorted((a, b) => a.name < b.name ? -1 : 1)
}

/** One method as it is called, e.g. `/spire.api.server.entry.v1.Entry/GetEntry`. */
export interface Rpc { readonly path: string, readonly service: Service<Methods>, readonly key: string, readonly method: AnyMethod }

export async function spireRpcs (): Promise<readonly Rpc[]> {
  return (await spireServices()).flatMap(service => Object.entries(service.methods).map(([key, method]) =>
    ({ path: `/${service.name}/${method.name}`, service, key, method })))
}

export interface Outcome { readonly answer?: unknown, readonly error?: RpcError }

/** The first answer, whatever the method's kind; of a stream of requests, the one given is the only one. */
export async function ask (channel: Channel, { service, key, method: { kind } }: Rpc, request: unknown = {}): Promise<Outcome> {
  const call = channel.client(service)[key] as unknown as (request: unknown) => Promise<unknown> | AsyncIterable<unknown>
  try {
    const reply = call(kind === 'bidi' || kind === 'clientStream' ? (async function * () { yield request })() : request)
    if (!(Symbol.asyncIterator in reply)) return { answer: await reply }
    for await (const answer of reply) return { answer }
    return {}
  } catch (error) {
    if (error instanceof RpcError) return { error }
    throw error
  }
}

function isService (value: unknown): value is Service<Methods> {
  return typeof value === 'object' && value !== null && 'methods' in value && 'name' in value
}
