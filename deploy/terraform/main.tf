# The same as the cloud part of `gembatch init`.

data "google_project" "this" {
  project_id = var.project_id
}

locals {
  # What the functions run as.
  account = coalesce(var.service_account, "${data.google_project.this.number}-compute@developer.gserviceaccount.com")

  # Who reads and writes inputs and outputs of jobs, and large payloads.
  members = merge(
    { functions = "serviceAccount:${local.account}" },
    local.is_vertex ? { agent = "serviceAccount:${google_project_service_identity.vertex[0].email}" } : {},
  )
}

resource "google_project_service" "api" {
  for_each = local.apis

  project            = var.project_id
  service            = each.value
  disable_on_destroy = false
}

# Jobs of Vertex AI read and write as its service agent.
resource "google_project_service_identity" "vertex" {
  provider = google-beta
  count    = local.is_vertex ? 1 : 0

  project    = var.project_id
  service    = local.facts.agentApi
  depends_on = [google_project_service.api]
}

resource "google_storage_bucket" "gembatch" {
  count = local.has_bucket ? 1 : 0

  project                     = var.project_id
  name                        = local.bucket
  location                    = local.location
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # What jobs leave behind. Large payloads lie beside this folder and stay.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = local.days
      matches_prefix = ["${var.bucket_folder}/"]
    }
  }

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  depends_on = [google_project_service.api]
}

resource "google_storage_bucket_iam_member" "gembatch" {
  for_each = local.has_bucket ? {
    for pair in setproduct(keys(local.members), local.facts.roles.bucket) : join("/", pair) => { member = pair[0], role = pair[1] }
  } : {}

  bucket = google_storage_bucket.gembatch[0].name
  role   = each.value.role
  member = local.members[each.value.member]
}

resource "google_bigquery_dataset" "gembatch" {
  count = local.has_dataset ? 1 : 0

  project                     = var.project_id
  dataset_id                  = var.dataset
  location                    = local.location
  default_table_expiration_ms = local.facts.defaults.tableExpirationMs
  depends_on                  = [google_project_service.api]
}

resource "google_bigquery_dataset_iam_member" "gembatch" {
  for_each = local.has_dataset ? {
    for pair in setproduct(keys(local.members), local.facts.roles.dataset) : join("/", pair) => { member = pair[0], role = pair[1] }
  } : {}

  project    = var.project_id
  dataset_id = google_bigquery_dataset.gembatch[0].dataset_id
  role       = each.value.role
  member     = local.members[each.value.member]
}

resource "google_project_iam_member" "functions" {
  for_each = local.project_roles

  project    = var.project_id
  role       = each.value
  member     = local.members.functions
  depends_on = [google_project_service.api]
}

# A task calls the function in the name of the account that enqueued it.
resource "google_service_account_iam_member" "functions" {
  for_each = toset(local.facts.roles.account)

  service_account_id = "projects/${var.project_id}/serviceAccounts/${local.account}"
  role               = each.value
  member             = local.members.functions
  depends_on         = [google_project_service.api]
}

resource "google_firestore_index" "gembatch" {
  for_each = local.indexes

  project     = var.project_id
  database    = var.database
  collection  = each.value.collection
  query_scope = each.value.query_scope
  density     = local.is_enterprise ? "SPARSE_ANY" : null

  dynamic "fields" {
    for_each = each.value.fields
    content {
      field_path   = fields.value.field_path
      order        = fields.value.order
      array_config = fields.value.array_config
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_firestore_field" "gembatch" {
  for_each = local.field_settings

  project    = var.project_id
  database   = var.database
  collection = each.value.collection
  field      = each.value.field

  # Without an index inside, the field has none.
  index_config {
    dynamic "indexes" {
      for_each = each.value.indexes
      content {
        query_scope  = indexes.value.query_scope
        order        = indexes.value.order
        array_config = indexes.value.array_config
      }
    }
  }

  dynamic "ttl_config" {
    for_each = each.value.ttl ? [true] : []
    content {}
  }

  depends_on = [google_project_service.api]
}
