import { Server, ServerCredentials, type ConnectionInjector, type ServerOptions, type UntypedHandleCall } from '@grpc/grpc-js'
import type { BoundService } from './bound-service.ts'
import type { RpcLimits } from './limits.ts'
import { serveMethod, type ServingDeps } from './serve-call.ts'

/** The HTTP/2 and gRPC side of one listener: it is handed sockets whose caller is known already. */
export interface GrpcAdapter {
  inject (socket: Parameters<ConnectionInjector['injectConnection']>[0]): void
  /** GOAWAY to all: no new calls, and a connection closes when its last call has ended. */
  drain (): void
  destroy (): void
}

/** @param ages whether connections have an age and are pinged: over a network, not on a local socket */
export function openGrpcAdapter (services: readonly BoundService[], deps: ServingDeps, limits: RpcLimits, ages: boolean): GrpcAdapter {
  const server = new Server({
    'grpc.enable_channelz': 0,
    'grpc.max_receive_message_length': limits.maxMessageBytes,
    'grpc.max_send_message_length': -1,
    'grpc.max_concurrent_streams': limits.maxStreamsPerConnection,
    ...ages ? ageOptions(limits) : {}
  })
  for (const { service, handlers } of services) {
    const methods = Object.entries(service.methods).map(([name, method]) => ({ name, method, path: `/${service.name}/${method.name}` }))
    server.addService(
      Object.fromEntries(methods.map(({ name, method, path }) => [name, {
        path,
        requestStream: method.kind === 'clientStream' || method.kind === 'bidi',
        responseStream: method.kind === 'serverStream' || method.kind === 'bidi',
        // Bytes both ways: what cannot be decoded is a refusal of ours, and what is encoded already is not encoded again.
        requestSerialize: asBuffer,
        requestDeserialize: method.kind === 'serverStream' ? ownCopy : (bytes: Buffer) => bytes,
        responseSerialize: asBuffer,
        responseDeserialize: (bytes: Buffer) => bytes
      }])),
      Object.fromEntries(methods.map(({ name, method, path }) =>
        [name, serveMethod({ path, method, handler: handlers[name] }, deps) as UntypedHandleCall]))
    )
  }
  // What arrives is plain HTTP/2: TLS, if any, has been taken off by the listener.
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  return {
    inject: socket => injector.injectConnection(socket),
    // Its callback comes too early: Node's own server has marked the sessions as closed before grpc-js looks.
    drain: () => server.tryShutdown(() => undefined),
    destroy: () => server.forceShutdown()
  }
}

function ageOptions (limits: RpcLimits): ServerOptions {
  return {
    'grpc.max_connection_age_ms': limits.connectionAgeMs,
    ...limits.connectionAgeGraceMs === undefined ? {} : { 'grpc.max_connection_age_grace_ms': limits.connectionAgeGraceMs },
    'grpc.keepalive_time_ms': limits.keepaliveMs,
    'grpc.keepalive_timeout_ms': limits.keepaliveTimeoutMs
  }
}

function asBuffer (bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** grpc-js keeps the request for as long as the stream lasts; as a view it would keep the 64 KiB of the socket's read with it. */
function ownCopy (bytes: Buffer): Buffer {
  return asBuffer(new Uint8Array(bytes))
}
