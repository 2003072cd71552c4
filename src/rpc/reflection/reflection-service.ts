import { status as grpcStatus } from '@grpc/grpc-js'
import {
  reflectionService as v1, type ServerReflectionRequest, type ServerReflectionResponseInit
} from '../../wire/generated/reflection.ts'
import { reflectionAlphaService as v1alpha } from '../../wire/generated/reflection-alpha.ts'
import { bind, type BoundService } from '../bound-service.ts'
import { describeServices, type FileDescriptors } from './file-descriptors.ts'

/** Server reflection for what is offered beside it (WLE-19), under its present and its older name. */
export function reflectionServices (offered: readonly BoundService[]): BoundService[] {
  const services = [...offered.map(({ service }) => service), v1, v1alpha]
  const names = [...new Set(services.map(({ name }) => name))].toSorted()
  let described: FileDescriptors | undefined
  const handlers = {
    async * serverReflectionInfo (requests: AsyncIterable<ServerReflectionRequest>) {
      // Built when first asked for: hardly any server ever is.
      described ??= describeServices(services)
      for await (const request of requests) {
        yield { validHost: request.host, originalRequest: request, ...answer(request, names, described) }
      }
    }
  }
  return [bind(v1, handlers), bind(v1alpha, handlers)]
}

function answer (request: ServerReflectionRequest, names: readonly string[], described: FileDescriptors): ServerReflectionResponseInit {
  if (request.listServices !== undefined) return { listServicesResponse: { service: names.map(name => ({ name })) } }
  if (request.fileByFilename !== undefined) return files(described.byName(request.fileByFilename))
  if (request.fileContainingSymbol !== undefined) return files(described.bySymbol(request.fileContainingSymbol))
  // proto3 has no extensions.
  return notFound()
}

function files (found: readonly Uint8Array[] | undefined): ServerReflectionResponseInit {
  return found === undefined ? notFound() : { fileDescriptorResponse: { fileDescriptorProto: found } }
}

function notFound (): ServerReflectionResponseInit {
  return { errorResponse: { errorCode: grpcStatus.NOT_FOUND, errorMessage: 'not found' } }
}
