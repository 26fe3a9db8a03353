# What is wanted, from variables and facts alone. No resource or data source is named here.
locals {
  facts = jsondecode(file("${path.module}/gembatch.json"))

  is_vertex   = var.model_provider == "vertex"
  has_dataset = local.is_vertex && var.dataset != null
  bucket      = var.bucket != null ? var.bucket : local.is_vertex ? "${replace(var.project_id, "/[^a-z0-9-]/", "-")}-gembatch" : null
  has_bucket  = local.bucket != null
  location    = coalesce(var.storage_location, var.region)
  days        = coalesce(var.days, local.facts.defaults.days)

  apis = toset(concat(
    local.facts.apis.always,
    local.facts.apis[var.model_provider],
    local.has_dataset ? local.facts.apis.dataset : [],
  ))

  project_roles = toset(concat(
    local.facts.roles.project,
    local.is_vertex ? local.facts.roles.vertexProject : [],
    # gembatchOutput; without it, the role does nothing.
    local.is_vertex ? local.facts.roles.eventsProject : [],
    local.has_dataset ? local.facts.roles.datasetProject : [],
  ))

  firestore = jsondecode(var.indexes_file == null ? jsonencode(local.facts.firestore) : file(var.indexes_file))

  is_enterprise = var.edition == "ENTERPRISE"

  # Enterprise makes no index by itself: there is nothing to exempt, and one of a single field is declared like all others.
  single_field = flatten([
    for field in local.firestore.fieldOverrides : [
      for index in field.indexes : {
        collectionGroup = field.collectionGroup
        queryScope      = try(index.queryScope, "COLLECTION")
        fields          = [merge({ fieldPath = field.fieldPath }, index)]
      }
    ]
  ])
  declared = concat(local.firestore.indexes, [for index in local.single_field : index if local.is_enterprise])

  indexes = {
    for index in local.declared :
    join("/", concat(
      [index.collectionGroup, try(index.queryScope, "COLLECTION")],
      [for field in index.fields : "${field.fieldPath}-${try(field.arrayConfig, field.order, "ASCENDING")}"],
      )) => {
      collection  = replace(index.collectionGroup, "/^${local.facts.defaults.prefix}_/", "${var.prefix}_")
      query_scope = try(index.queryScope, "COLLECTION")
      fields = [for field in index.fields : {
        field_path   = field.fieldPath
        array_config = try(field.arrayConfig, null)
        order        = try(field.arrayConfig, null) == null ? try(field.order, "ASCENDING") : null
      }]
    } if var.manage_indexes
  }

  field_settings = {
    for field in local.firestore.fieldOverrides :
    "${field.collectionGroup}/${field.fieldPath}" => {
      collection = replace(field.collectionGroup, "/^${local.facts.defaults.prefix}_/", "${var.prefix}_")
      field      = field.fieldPath
      ttl        = try(field.ttl, false)
      indexes = [for index in field.indexes : {
        query_scope  = try(index.queryScope, "COLLECTION")
        array_config = try(index.arrayConfig, null)
        order        = try(index.order, null)
      } if !local.is_enterprise]
    } if var.manage_indexes && (!local.is_enterprise || try(field.ttl, false))
  }
}
