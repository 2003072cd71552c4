import type { HandlersOf, Methods, Service } from '../wire/service.ts'
import type { CallContext } from './call.ts'

/** A service with its handlers, ready to be offered on a listener. */
export interface BoundService {
  readonly service: Service<Methods>
  readonly handlers: Readonly<Record<string, AnyHandler | undefined>>
}

/** A handler whose message types are no longer known; `bind` has checked them. */
export type AnyHandler = (request: never, context: CallContext) => unknown

/** Ties handlers to their service; a method without one answers UNIMPLEMENTED. */
export function bind<M extends Methods> (service: Service<M>, handlers: Partial<HandlersOf<M, CallContext>>): BoundService {
  return { service, handlers: handlers }
}
