import type { Encoded } from './encoded.ts'
import type { AnyMessageType, Decoded, Init } from './message-type.ts'

export type MethodKind = 'unary' | 'serverStream' | 'clientStream' | 'bidi'

export interface Method<Kind extends MethodKind, Request extends AnyMessageType, Response extends AnyMessageType> {
  readonly kind: Kind
  /** As in the proto. */
  readonly name: string
  readonly request: Request
  readonly response: Response
}
export type AnyMethod = Method<MethodKind, AnyMessageType, AnyMessageType>
export type Methods = Readonly<Record<string, AnyMethod>>

export interface Service<M extends Methods> {
  /** Full name, e.g. `spire.api.server.entry.v1.Entry`. */
  readonly name: string
  /** By lowerCamelCase name. */
  readonly methods: M
}

/** What a handler may answer with: a message, or one that is encoded already. */
export type Answer<M extends AnyMessageType> = Init<M> | Encoded<Decoded<M>>

export type Handler<M extends AnyMethod, Context> =
  M extends Method<infer Kind, infer Request, infer Response>
    ? {
      unary: (request: Decoded<Request>, context: Context) => Promise<Answer<Response>>
      serverStream: (request: Decoded<Request>, context: Context) => AsyncIterable<Answer<Response>>
      clientStream: (requests: AsyncIterable<Decoded<Request>>, context: Context) => Promise<Answer<Response>>
      bidi: (requests: AsyncIterable<Decoded<Request>>, context: Context) => AsyncIterable<Answer<Response>>
    }[Kind]
    : never

export type HandlersOf<M extends Methods, Context> = { readonly [Name in keyof M]: Handler<M[Name], Context> }

export type Call<M extends AnyMethod, Options> =
  M extends Method<infer Kind, infer Request, infer Response>
    ? {
      unary: (request: Init<Request>, options?: Options) => Promise<Decoded<Response>>
      serverStream: (request: Init<Request>, options?: Options) => AsyncIterable<Decoded<Response>>
      clientStream: (requests: AsyncIterable<Init<Request>>, options?: Options) => Promise<Decoded<Response>>
      bidi: (requests: AsyncIterable<Init<Request>>, options?: Options) => AsyncIterable<Decoded<Response>>
    }[Kind]
    : never

export type CallsOf<M extends Methods, Options> = { readonly [Name in keyof M]: Call<M[Name], Options> }

export function method<Kind extends MethodKind, Request extends AnyMessageType, Response extends AnyMessageType> (
  kind: Kind, name: string, request: Request, response: Response
): Method<Kind, Request, Response> {
  return { kind, name, request, response }
}
