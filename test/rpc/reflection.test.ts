import protobuf from 'protobufjs'
import 'protobufjs/ext/descriptor.js'
import t from 'tap'
import { loadProtos } from '../../scripts/wire/load-protos.ts'
import { bind } from '../../src/rpc/bound-service.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { describeServices } from '../../src/rpc/reflection/file-descriptors.ts'
import { reflectionServices } from '../../src/rpc/reflection/reflection-service.ts'
import { openRpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { secretDiscoveryService } from '../../src/wire/generated/envoy-sds.ts'
import { reflectionService, type ServerReflectionRequestInit } from '../../src/wire/generated/reflection.ts'
import { reflectionAlphaService } from '../../src/wire/generated/reflection-alpha.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { trustDomainService } from '../../src/wire/generated/server-trust-domain.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'

void t.test('server reflection', async t => {
  const path = `${t.testdir()}/api.sock`
  const offered = [bind(workloadService, {}), bind(secretDiscoveryService, {})]
  const server = openRpcServer({ services: [...offered, ...reflectionServices(offered)], log: silentLogger, clock: systemClock })
  await server.listenUnix({ path })
  const channel = openUnixChannel(path)
  t.teardown(async () => {
    await channel[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
  })
  for (const service of [reflectionService, reflectionAlphaService]) {
    const ask = async (request: ServerReflectionRequestInit) => {
      for await (const answer of channel.client(service).serverReflectionInfo(one(request))) return answer
      throw new Error('no answer')
    }
    const listed = (await ask({ listServices: '' })).listServicesResponse?.service.map(({ name }) => name)
    t.same(listed, [
      'SpiffeWorkloadAPI', 'envoy.service.secret.v3.SecretDiscoveryService', 'grpc.reflection.v1.ServerReflection',
      'grpc.reflection.v1alpha.ServerReflection'
    ], `WLE-19 ${service.name} lists the services`)
    const files = (await ask({ fileContainingSymbol: 'SpiffeWorkloadAPI.FetchX509SVID' })).fileDescriptorResponse?.fileDescriptorProto ?? []
    const { root } = read(files)
    const method = root.lookupService('SpiffeWorkloadAPI').methods['FetchX509SVID']
    t.match(method, { requestStream: undefined, responseStream: true }, 'WLE-19 and describes them')
    t.equal(method?.resolvedResponseType?.fields['federated_bundles']?.id, 3)
    t.equal((await ask({ fileByFilename: 'workload.proto' })).fileDescriptorResponse?.fileDescriptorProto.length, files.length)
    t.match(await ask({ fileContainingSymbol: 'no.Such' }),
      { errorResponse: { errorCode: 5 }, originalRequest: { fileContainingSymbol: 'no.Such' } })
    t.match(await ask({ fileContainingExtension: { containingType: 'x', extensionNumber: 1 } }), { errorResponse: { errorCode: 5 } })
  }
})

void t.test('the descriptors say what the protos say', async t => {
  const services = [agentService, entryService, trustDomainService, secretDiscoveryService]
  const described = describeServices(services)
  const expected = loadProtos([
    'spire/api/server/agent/v1/agent.proto', 'spire/api/server/entry/v1/entry.proto', 'spire/api/server/trustdomain/v1/trustdomain.proto',
    'envoy/service/secret/v3/sds.proto'
  ])
  for (const service of services) {
    const files = described.bySymbol(service.name)
    t.ok(files, service.name)
    const { root, names, imports } = read(files ?? [])
    t.same(imports.filter(name => !names.includes(name)), [], 'every import is there')
    // What is built in to protobufjs has other letters.
    const types = typesIn(root).filter(({ fullName }) => !fullName.startsWith('.google.protobuf'))
    t.ok(types.length > 5)
    for (const type of types) t.same(shapeOf(type), shapeOf(expected.lookupType(type.fullName)), type.fullName)
    t.same(methodsOf(root.lookupService(service.name)), methodsOf(expected.lookupService(service.name)))
  }
})

async function * one<T> (value: T): AsyncGenerator<T> { yield value }

function read (files: readonly Uint8Array[]): { root: protobuf.Root, names: string[], imports: string[] } {
  const descriptor = loadProtos(['google/protobuf/descriptor.proto'])
  const type = descriptor.lookupType('google.protobuf.FileDescriptorProto')
  const decoded = files.map(bytes => type.toObject(type.decode(bytes)))
  const set = descriptor.lookupType('google.protobuf.FileDescriptorSet')
  const root = protobuf.Root.fromDescriptor(set.encode({ file: files.map(bytes => type.decode(bytes)) }).finish(), { keepCase: true })
  root.resolveAll()
  return { root, names: decoded.map(file => String(file['name'])),
    imports: decoded.flatMap(file => (file['dependency'] ?? []) as string[]) }
}

function typesIn (namespace: protobuf.NamespaceBase): protobuf.Type[] {
  return namespace.nestedArray.flatMap(object => [
    ...object instanceof protobuf.Type ? [object] : [], ...object instanceof protobuf.Namespace ? typesIn(object) : []
  ])
}

function shapeOf (type: protobuf.Type): unknown {
  return type.fieldsArray.map(field => field.resolve()).toSorted((a, b) => a.id - b.id).map(field => [
    field.name, field.id, field.resolvedType?.fullName ?? field.type, field.repeated, field.map,
    field instanceof protobuf.MapField ? field.keyType : '',
    field.partOf?.name
  ])
}

function methodsOf (service: protobuf.Service): unknown {
  return service.methodsArray.map(method => [
    method.name, method.resolvedRequestType?.fullName, method.resolvedResponseType?.fullName,
    method.requestStream === true, method.responseStream === true
  ])
}
